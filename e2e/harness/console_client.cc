#include "e2e/harness/console_client.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace drover {

ConsoleClient::ConsoleClient(v1::VmService::Stub* vms, const std::string& vm_id) {
  stream_ = vms->StreamConsole(&context_);
  v1::StreamConsoleRequest first;
  first.set_vm_id(vm_id);
  stream_->Write(first);
  reader_ = std::thread([this] { ReadAll(); });
}

ConsoleClient::~ConsoleClient() {
  context_.TryCancel();
  reader_.join();
  stream_->Finish();
}

void ConsoleClient::ReadAll() {
  v1::StreamConsoleResponse response;
  while (stream_->Read(&response)) {
    MutexLock lock(&mutex_);
    output_.append(response.output());
    lost_bytes_ += response.lost_bytes();
    changed_.SignalAll();
  }
  MutexLock lock(&mutex_);
  ended_ = true;
  changed_.SignalAll();
}

absl::StatusOr<std::string> ConsoleClient::Expect(const std::string& text,
                                                  std::chrono::seconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  MutexLock lock(&mutex_);
  for (;;) {
    const size_t at = output_.find(text, consumed_);
    if (at != std::string::npos) {
      std::string found = output_.substr(consumed_, at + text.size() - consumed_);
      consumed_ = at + text.size();
      return found;
    }
    if (ended_ || !changed_.WaitUntil(&mutex_, deadline))
      if (output_.find(text, consumed_) == std::string::npos)
        return absl::DeadlineExceededError(
            absl::StrCat(ended_ ? "the console ended" : "no", " \"", text,
                         "\" on the console; after what was expected before came: \"",
                         output_.substr(consumed_), "\""));
  }
}

bool ConsoleClient::Send(const std::string& input) {
  v1::StreamConsoleRequest request;
  request.set_input(input);
  return stream_->Write(request);
}

absl::StatusOr<std::string> ConsoleClient::Command(const std::string& line) {
  if (!Send(line + "\n")) return absl::UnavailableError("the console has ended");
  for (;;) {
    absl::StatusOr<std::string> found = Expect("\n");
    if (!found.ok()) return found.status();
    absl::string_view text = *found;
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
    if (text.substr(0, 2) == "ok" || text.substr(0, 5) == "error") return std::string(text);
  }
}

std::string ConsoleClient::Output() {
  MutexLock lock(&mutex_);
  return output_;
}

int64_t ConsoleClient::LostBytes() {
  MutexLock lock(&mutex_);
  return lost_bytes_;
}

grpc::Status ConsoleClient::WaitForEnd() {
  {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    MutexLock lock(&mutex_);
    while (!ended_)
      if (!changed_.WaitUntil(&mutex_, deadline)) break;
  }
  context_.TryCancel();
  return grpc::Status::OK;
}

}  // namespace drover
