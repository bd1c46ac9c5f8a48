// A worker for the tests of the jail and of the helper: it reports what it sees from inside.
//   --report          the report on descriptor 1
//   --probe           capabilities as the real worker prints them
//   --worker          waits for its launch message on descriptor 3, then serves its control socket:
//                     "report", "end" (last words, then exit), "vanish" (exit at once), "forbidden"
//                     (a system call that its seccomp filter kills it for)

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

extern char** environ;

namespace {

struct Report {
  char text[8192];
  int size = 0;

  void Line(const char* format, ...) __attribute__((format(printf, 2, 3))) {
    va_list arguments;
    va_start(arguments, format);
    size += vsnprintf(text + size, sizeof(text) - size, format, arguments);
    va_end(arguments);
    size += snprintf(text + size, sizeof(text) - size, "\n");
  }
};

int ErrnoOf(long result) { return result < 0 ? errno : 0; }

void Ids(Report* report) {
  uid_t uid[3];
  gid_t gid[3];
  getresuid(&uid[0], &uid[1], &uid[2]);
  getresgid(&gid[0], &gid[1], &gid[2]);
  report->Line("pid=%d ppid=%d sid=%d", getpid(), getppid(), getsid(0));
  report->Line("uids=%u,%u,%u gids=%u,%u,%u groups=%d", uid[0], uid[1], uid[2], gid[0], gid[1],
               gid[2], getgroups(0, nullptr));
}

void Root(Report* report) {
  int entries = 0;
  if (DIR* root = opendir("/")) {
    while (const struct dirent* entry = readdir(root))
      if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) ++entries;
    closedir(root);
  }
  struct stat here, above;
  stat("/", &here);
  stat("/..", &above);
  report->Line("root_entries=%d root_mode=%o above=%s", entries, here.st_mode & 07777,
               here.st_ino == above.st_ino && here.st_dev == above.st_dev ? "root" : "elsewhere");
  report->Line("create=%s",
               strerrorname_np(ErrnoOf(open("/file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600))));
  report->Line("mkdir=%s", strerrorname_np(ErrnoOf(mkdir("/directory", 0700))));
  report->Line("remount=%s",
               strerrorname_np(ErrnoOf(mount("none", "/", "tmpfs", MS_REMOUNT, nullptr))));
  report->Line("proc=%s",
               strerrorname_np(ErrnoOf(open("/proc/self/status", O_RDONLY | O_CLOEXEC))));
}

void Privileges(Report* report) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {};
  syscall(SYS_capget, &header, data);
  int bounding = 0, ambient = 0;
  for (int i = 0; i < 64; ++i) {
    bounding += prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1;
    ambient += prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1;
  }
  report->Line("effective=%x permitted=%x inheritable=%x bounding=%d ambient=%d",
               data[0].effective | data[1].effective, data[0].permitted | data[1].permitted,
               data[0].inheritable | data[1].inheritable, bounding, ambient);
  report->Line("no_new_privs=%d securebits=%x", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
               prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
  report->Line("setuid=%s unshare=%s", strerrorname_np(ErrnoOf(setuid(0))),
               strerrorname_np(ErrnoOf(unshare(CLONE_NEWNS))));
}

void Network(Report* report) {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  struct ifreq request = {};
  int count = 0, up = 0;
  for (int i = 1; fd >= 0 && i < 64; ++i) {
    request.ifr_ifindex = i;
    if (ioctl(fd, SIOCGIFNAME, &request) != 0) continue;
    ++count;
    if (ioctl(fd, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP)) ++up;
  }
  if (fd >= 0) close(fd);
  report->Line("interfaces=%d up=%d", count, up);
}

void Descriptors(Report* report) {
  char list[256] = "";
  size_t n = 0;
  for (int fd = 0; fd < 1024 && n < sizeof(list) - 8; ++fd)
    if (fcntl(fd, F_GETFD) >= 0) n += snprintf(list + n, sizeof(list) - n, n ? ",%d" : "%d", fd);
  report->Line("fds=%s", list);
}

void Surroundings(Report* report, int argc, char** argv) {
  int variables = 0;
  for (char** each = environ; each && *each; ++each) ++variables;
  struct utsname name;
  uname(&name);
  report->Line("environment=%d hostname=%s argc=%d last=%s", variables, name.nodename, argc,
               argv[argc - 1]);
  struct rlimit files, core, locked;
  getrlimit(RLIMIT_NOFILE, &files);
  getrlimit(RLIMIT_CORE, &core);
  getrlimit(RLIMIT_MEMLOCK, &locked);
  report->Line("nofile=%lu core=%lu memlock=%lu", static_cast<unsigned long>(files.rlim_max),
               static_cast<unsigned long>(core.rlim_max),
               static_cast<unsigned long>(locked.rlim_max));
  sigset_t mask;
  sigprocmask(SIG_SETMASK, nullptr, &mask);
  int blocked = 0, handled = 0;
  for (int signal = 1; signal < 32; ++signal) {
    struct sigaction action = {};
    sigaction(signal, nullptr, &action);
    blocked += sigismember(&mask, signal) == 1;
    handled += action.sa_handler != SIG_DFL;
  }
  report->Line("blocked=%d not_default=%d", blocked, handled);
}

void Fill(Report* report, int argc, char** argv) {
  Descriptors(report);
  Ids(report);
  Root(report);
  Privileges(report);
  Network(report);
  Surroundings(report, argc, argv);
}

void Write(int fd, const char* text, size_t size) {
  if (write(fd, text, size) < 0) _exit(3);
}

// As a worker's own filter would: getpriority(2) is its end.
void CallForbidden() {
  struct sock_filter filter[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr)},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_getpriority},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  const struct sock_fprog program = {4, filter};
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(6);
  syscall(SYS_getpriority, 0, 0);
  _exit(7);
}

struct Launch {
  int fds[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
  int count = 0;
};

// Control socket, last words, log, kernel, initrd; exits at the end of the file.
Launch AwaitLaunch() {
  char bytes[4096];
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * 8)];
  struct iovec vec = {bytes, sizeof(bytes)};
  struct msghdr header = {};
  header.msg_iov = &vec;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  if (recvmsg(3, &header, 0) <= 0) _exit(0);
  Launch launch;
  const struct cmsghdr* c = CMSG_FIRSTHDR(&header);
  if (c == nullptr || c->cmsg_type != SCM_RIGHTS) _exit(4);
  launch.count = static_cast<int>((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
  memcpy(launch.fds, CMSG_DATA(c), launch.count * sizeof(int));
  return launch;
}

// False when the connection has ended.
bool ServeOne(int connection, const Launch& launch, const Report& report) {
  char command[64] = "";
  const ssize_t n = recv(connection, command, sizeof(command) - 1, 0);
  if (n <= 0) return false;
  if (strcmp(command, "end") == 0) {
    Write(launch.fds[1], "famous last words", 17);
    _exit(0);
  }
  if (strcmp(command, "vanish") == 0) _exit(9);
  if (strcmp(command, "forbidden") == 0) CallForbidden();
  send(connection, report.text, report.size, MSG_NOSIGNAL);
  return true;
}

void Work(int argc, char** argv) {
  Report report;
  Fill(&report, argc, argv);  // before the launch: its descriptors are the jail's
  const Launch launch = AwaitLaunch();
  report.Line("launch_fds=%d", launch.count);
  for (int i = 3; i < launch.count; ++i) {
    char content[64] = "";
    if (read(launch.fds[i], content, sizeof(content) - 1) < 0) _exit(5);
    report.Line("file%d=%s", i - 3, content);
  }
  Write(launch.fds[2], "launched\n", 9);
  for (;;) {
    const int connection = accept4(launch.fds[0], nullptr, nullptr, SOCK_CLOEXEC);
    while (connection >= 0 && ServeOne(connection, launch, report)) {
    }
    close(connection);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const char* mode = argc > 1 ? argv[1] : "";
  if (strcmp(mode, "--worker") == 0) Work(argc, argv);
  if (strcmp(mode, "--probe") == 0) {
    printf("kind=test\nmax_vcpus=4\nuid=%u\n", getuid());
    return 0;
  }
  Report report;
  Fill(&report, argc, argv);
  Write(1, report.text, report.size);
  return 0;
}
