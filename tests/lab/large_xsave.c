/*
 * ptrace(2) as the kernel of another CPU does it: one whose XSAVE area, all registers of a process, has $XSAVE_BYTES
 * (Linux: arch/x86/kernel/fpu/regset.c, xstateregs_set takes it only whole; ptrace_regset shortens what is too long).
 * Preloaded (ld.so(8)), it shows a kernel that is a program, which has each process's registers by ptrace, that CPU.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

long ptrace(enum __ptrace_request request, ...)
{
	static long (*real)(int, ...);
	static size_t claimed;
	va_list words;
	va_start(words, request);
	long pid = va_arg(words, long), addr = va_arg(words, long), data = va_arg(words, long);
	va_end(words);
	if (!real) {
		real = dlsym(RTLD_NEXT, "ptrace");
		claimed = atol(getenv("XSAVE_BYTES"));
	}
	if ((request != PTRACE_GETREGSET && request != PTRACE_SETREGSET) || addr != NT_X86_XSTATE)
		return real(request, pid, addr, data);
	struct iovec *area = (struct iovec *)data;
	if (area->iov_len > claimed)
		area->iov_len = claimed;
	if (request == PTRACE_SETREGSET && area->iov_len != claimed) {
		errno = EFAULT;
		return -1;
	}
	struct iovec mine = *area;
	long done = real(request, pid, addr, &mine);
	if (request == PTRACE_GETREGSET && mine.iov_len < area->iov_len)
		memset((char *)area->iov_base + mine.iov_len, 0, area->iov_len - mine.iov_len);
	return done;
}
