#include "vmm/worker/launch.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"
#include "vmm/worker/control_proto.h"

namespace drover {

absl::StatusOr<std::optional<Launch>> ReceiveLaunch(UnixChannel& channel) {
  absl::StatusOr<ChannelMessage> message = channel.Receive();
  if (absl::IsUnavailable(message.status())) return std::nullopt;
  RETURN_IF_ERROR(message.status());
  ASSIGN_OR_RETURN(LaunchHeader header, ParseLaunchHeader(message->bytes));
  const size_t wanted = header.has_initrd ? 5 : 4;
  if (message->fds.size() != wanted)
    return absl::InvalidArgumentError(absl::StrCat("a WorkerLaunch with ", message->fds.size(),
                                                   " descriptors where ", wanted, " belong"));
  Launch launch{.instance_id = std::move(header.instance_id),
                .control = std::move(message->fds[0]),
                .last_words = std::move(message->fds[1]),
                .log = std::move(message->fds[2]),
                .kernel = std::move(message->fds[3]),
                .initrd = {}};
  if (header.has_initrd) launch.initrd = std::move(message->fds[4]);
  return launch;
}

}  // namespace drover
