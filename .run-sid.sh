exec 2>&1
set -x
apt-get update -qq; apt-cache policy python3 python3.14 python3.15 | grep -v HOST | grep -E "^python|Cand"
apt-get install -y -qq --no-install-recommends python3-venv python3 git iproute2 procps >/dev/null
for v in 3.14 3.15; do apt-get install -y -qq --no-install-recommends python$v python$v-venv >/dev/null && ls /usr/bin/python$v; done
for v in 3.14 3.15; do
 command -v python$v || continue
 python$v -m venv /v$v && /v$v/bin/pip install -q --prefer-binary -e '.[node,sweep,eve,study]' pytest pytest-timeout pytest-xdist hypothesis cryptography-vectors 2>&1 | tail -5
 PYTHONWARNINGS=error nice -n 10 timeout 1500 /v$v/bin/python -W error -m pytest -q -W error -m "not long and not lab" -p no:cacheprovider tests/node tests/sweep -n 2 > /out-$v 2>&1; echo rc $?; tail -60 /out-$v
done
