# shellcheck shell=bash
# First script of the machine that only shows whether a kernel that is a program boots here (uml.py).
mount -n -t proc proc /proc
# By a program that was started, so has been given its registers, and has met page faults.
/bin/echo "lab: boots"
echo o >/proc/sysrq-trigger
sleep 10
