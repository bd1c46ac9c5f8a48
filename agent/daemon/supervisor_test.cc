#include "agent/daemon/supervisor.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

TEST(NotifySupervisorTest, IsQuietWithoutASupervisor) {
  unsetenv("NOTIFY_SOCKET");
  EXPECT_OK(NotifySupervisor("READY=1"));
}

TEST(NotifySupervisorTest, SendsToAnAbstractSocket) {
  const std::string name = "@drover-notify-" + std::to_string(getpid());
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  memcpy(address.sun_path + 1, name.data() + 1, name.size() - 1);
  ASSERT_EQ(bind(socket.get(), reinterpret_cast<sockaddr*>(&address),
                 static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())),
            0);
  setenv("NOTIFY_SOCKET", name.c_str(), 1);
  EXPECT_OK(NotifySupervisor("READY=1\nSTATUS=ok"));
  char text[64];
  const ssize_t n = recv(socket.get(), text, sizeof(text), 0);
  EXPECT_EQ(std::string(text, static_cast<size_t>(n)), "READY=1\nSTATUS=ok");
  unsetenv("NOTIFY_SOCKET");
}

TEST(NotifySupervisorTest, SaysThatNobodyListens) {
  setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
  EXPECT_THAT(NotifySupervisor("READY=1"), HasErrno(ENOENT));
  unsetenv("NOTIFY_SOCKET");
}

}  // namespace
}  // namespace drover
