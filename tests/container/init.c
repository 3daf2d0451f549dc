/*
 * The init that --init puts before a payload: it passes signals on, reaps what nobody waits for, and ends
 * as the payload ends.
 *
 *     oci-init -- PROGRAM [WORD...]
 *
 * Without a library, so that it is a thousand bytes and runs in any image: only system calls, no writable
 * data but the stack.  tests/container/make_init.py compiles it into oci_tools/container/init.py, and a test holds the two equal.
 *
 * Every signal is blocked and waited for, save those that say that we ourselves are at fault.  The payload
 * is the leader of a process group of its own, which has the terminal if there is one, so that what is typed
 * there reaches it and not us.  Not as process 1 (--pid host) we ask for orphans (prctl(2), CHILD_SUBREAPER).
 */

typedef unsigned long word;

#if defined(__x86_64__)
#define NR(x86, arm) x86
static long call(long n, word a, word b, word c, word d)
{
	long result;
	register word r10 __asm__("r10") = d;
	register word r8 __asm__("r8") = 0;
	__asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
	return result;
}
__asm__(".section .text.first,\"ax\"\n.globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall run\n");
#elif defined(__aarch64__)
#define NR(x86, arm) arm
static long call(long n, word a, word b, word c, word d)
{
	register word x8 __asm__("x8") = n;
	register word x0 __asm__("x0") = a;
	register word x1 __asm__("x1") = b;
	register word x2 __asm__("x2") = c;
	register word x3 __asm__("x3") = d;
	register word x4 __asm__("x4") = 0;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
}
__asm__(".section .text.first,\"ax\"\n.globl _start\n_start:\n\tmov x0, sp\n\tbl run\n");
#endif

#define WRITE NR(1, 64)
#define IOCTL NR(16, 29)
#define GETPID NR(39, 172)
#define CLONE NR(56, 220)
#define EXECVE NR(59, 221)
#define EXIT NR(231, 94) /* exit_group */
#define WAIT4 NR(61, 260)
#define KILL NR(62, 129)
#define SETPGID NR(109, 154)
#define PRCTL NR(157, 167)
#define SIGPROCMASK NR(14, 135)
#define SIGTIMEDWAIT NR(128, 137)

#define ENOENT 2
#define EACCES 13
#define ENOTDIR 20
#define SIGCHLD 17
#define BIT(n) (1ul << ((n) - 1))
/* ILL TRAP ABRT BUS FPE SEGV SYS */
#define OURS (BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(11) | BIT(31))

static word length(const char *text)
{
	word n = 0;
	while (text[n])
		n++;
	return n;
}

static void say(const char *text)
{
	call(WRITE, 2, (word)text, length(text), 0);
}

static int begins(const char *text, const char *with)
{
	while (*with)
		if (*text++ != *with++)
			return 0;
	return 1;
}

/* execvp(3): what went wrong, once nothing of the name could be executed. */
static long execute(char **words, char **environ)
{
	char path[4096];
	const char *at = "";
	long failed = -ENOENT;
	for (const char *c = words[0]; *c; c++)
		if (*c == '/')
			return call(EXECVE, (word)words[0], (word)words, (word)environ, 0);
	if (!words[0][0])
		return failed;
	for (char **each = environ; *each; each++)
		if (begins(*each, "PATH="))
			at = *each + 5;
	while (*at) {
		word n = 0;
		while (*at && *at != ':' && n < 3000)
			path[n++] = *at++;
		if (!n)
			path[n++] = '.';
		path[n++] = '/';
		for (const char *c = words[0]; *c && n < 4095; )
			path[n++] = *c++;
		path[n] = 0;
		long code = call(EXECVE, (word)path, (word)words, (word)environ, 0);
		if (code != -ENOENT && code != -ENOTDIR)
			failed = code;
		while (*at && *at != ':')
			at++;
		if (*at)
			at++;
	}
	return failed;
}

static void become(char **words, char **environ, word mask)
{
	int self = call(GETPID, 0, 0, 0, 0);
	call(SETPGID, 0, 0, 0, 0);
	call(IOCTL, 0, 0x5410 /* TIOCSPGRP */, (word)&self, 0);
	call(SIGPROCMASK, 2 /* SIG_SETMASK */, (word)&mask, 0, 8);
	long code = execute(words, environ);
	say("oci-init: exec: \"");
	say(words[0]);
	say(code == -ENOENT || code == -ENOTDIR ? "\": executable file not found in $PATH\n" : "\": it cannot be executed\n");
	call(EXIT, code == -ENOENT || code == -ENOTDIR ? 127 : 126, 0, 0, 0);
}

__attribute__((used)) void run(word *stack)
{
	char **words = (char **)stack + 1;
	char **environ = words + stack[0] + 1;
	word mask, every = ~OURS;
	if (*words && *++words && begins(*words, "--") && !(*words)[2])
		words++;
	if (!*words) {
		say("usage: oci-init -- PROGRAM [WORD...]\n");
		call(EXIT, 2, 0, 0, 0);
	}
	if (call(GETPID, 0, 0, 0, 0) != 1)
		call(PRCTL, 36 /* PR_SET_CHILD_SUBREAPER */, 1, 0, 0);
	call(SIGPROCMASK, 2, (word)&every, (word)&mask, 8);
	long child = call(CLONE, SIGCHLD, 0, 0, 0);
	if (child == 0)
		become(words, environ, mask);
	if (child < 0) {
		say("oci-init: cannot fork\n");
		call(EXIT, 126, 0, 0, 0);
	}
	for (;;) {
		long number = call(SIGTIMEDWAIT, (word)&every, 0, 0, 8);
		if (number != SIGCHLD) {
			if (number > 0)
				call(KILL, child, number, 0, 0);
			continue;
		}
		int status, ended = -1;
		long who;
		while ((who = call(WAIT4, -1ul, (word)&status, 1 /* WNOHANG */, 0)) > 0)
			if (who == child)
				ended = status & 127 ? 128 + (status & 127) : status >> 8 & 255;
		if (ended >= 0)
			call(EXIT, ended, 0, 0, 0);
	}
}
