#include "snapshot/memory_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "snapshot/crc64.h"
#include "vmm/base/mutex.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using testing::HasSubstr;

constexpr uint64_t kPage = 4096, kMiB = 1 << 20;

std::unique_ptr<GuestMemory> SomeMemory() {
  auto memory = *GuestMemory::Create({{0, 3 * kMiB}, {uint64_t{1} << 32, 2 * kMiB}});
  const auto write = [&](uint64_t address, const std::string& text) {
    EXPECT_OK(memory->Write(address, {reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  };
  write(5, "first page");
  write(kMiB - 3, "across a chunk's end");
  write(2 * kMiB + 8 * kPage + 4095, "!");  // the last byte of a page
  write((uint64_t{1} << 32) + 17 * kPage, std::string(5 * kPage, 'x'));
  write(3 * kMiB - kPage, std::string(kPage, '\0'));  // touched, but zero
  return memory;
}

// Outlives the OutputFile that is made of it.
struct TemporaryFile {
  Fd fd;
  std::unique_ptr<FdOutputFile> output;
};

TemporaryFile MakeFile() {
  Fd fd(open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  EXPECT_TRUE(fd.valid());
  Fd second = *fd.Duplicate();
  return {std::move(fd), std::make_unique<FdOutputFile>(std::move(second))};
}

std::string Content(const GuestMemory& memory) {
  std::string out;
  for (const GuestRegion& region : memory.regions())
    out.append(reinterpret_cast<const char*>(region.host), region.range.size);
  return out;
}

std::string Content(int fd) {
  struct stat stat;
  EXPECT_EQ(fstat(fd, &stat), 0);
  std::string out(static_cast<size_t>(stat.st_size), '\0');
  EXPECT_EQ(pread(fd, out.data(), out.size(), 0), static_cast<ssize_t>(out.size()));
  return out;
}

TEST(MemoryFile, HoldsTheRegionsOneAfterTheOther) {
  const auto memory = SomeMemory();
  for (const int threads : {1, 3, 64}) {
    const TemporaryFile file = MakeFile();
    uint64_t most = 0;
    Mutex mutex;
    ASSERT_OK_AND_ASSIGN(const MemoryWritten written,
                         WriteMemoryFile(SourcesOf(*memory), file.output.get(),
                                         {.threads = threads,
                                          .chunk_bytes = 64 << 10,
                                          .cancel = nullptr,
                                          .on_progress = [&](uint64_t done) {
                                            MutexLock lock(&mutex);
                                            most = std::max(most, done);
                                          }}));
    EXPECT_TRUE(Content(file.fd.get()) == Content(*memory));
    EXPECT_EQ(written.file_bytes, 5 * kMiB);
    EXPECT_EQ(written.data_bytes, (1 + 2 + 1 + 5) * kPage);
    EXPECT_EQ(written.crc64, Crc64(Content(*memory)));
    EXPECT_THAT(DigestFile(file.fd.get()), IsOkAndHolds(written.crc64));
    EXPECT_GT(most, 0u);
    struct stat stat;
    ASSERT_EQ(fstat(file.fd.get(), &stat), 0);
    EXPECT_LT(static_cast<uint64_t>(stat.st_blocks) * 512, kMiB) << "zeros are holes";
  }
}

TEST(MemoryFile, UntouchedMemoryStaysUntouched) {
  const auto memory = *GuestMemory::Create({{0, 64 * kMiB}});
  const TemporaryFile file = MakeFile();
  ASSERT_OK_AND_ASSIGN(const MemoryWritten written,
                       WriteMemoryFile(SourcesOf(*memory), file.output.get()));
  EXPECT_EQ(written, (MemoryWritten{64 * kMiB, 0, 0}));
  struct stat stat;
  ASSERT_EQ(fstat(memory->fd(), &stat), 0);
  EXPECT_EQ(stat.st_blocks, 0);
}

TEST(MemoryFile, WithoutAFileBehindTheMemory) {
  std::vector<uint8_t> bytes(10 * kPage);
  bytes[3 * kPage] = 1;
  const TemporaryFile file = MakeFile();
  ASSERT_OK_AND_ASSIGN(const MemoryWritten written,
                       WriteMemoryFile({{.bytes = bytes}}, file.output.get()));
  EXPECT_EQ(written.data_bytes, kPage);
  EXPECT_EQ(Content(file.fd.get()), std::string(bytes.begin(), bytes.end()));
}

TEST(MemoryFile, ReadsBack) {
  const auto memory = SomeMemory();
  const TemporaryFile file = MakeFile();
  ASSERT_OK(WriteMemoryFile(SourcesOf(*memory), file.output.get()));
  const auto fresh = *GuestMemory::Create({{0, 3 * kMiB}, {uint64_t{1} << 32, 2 * kMiB}});
  ASSERT_OK(ReadMemoryFile(file.fd.get(), SourcesOf(*fresh), /*clear_holes=*/false));
  EXPECT_TRUE(Content(*fresh) == Content(*memory));
  for (const GuestRegion& region : fresh->regions()) memset(region.host, 0xAA, region.range.size);
  ASSERT_OK(ReadMemoryFile(file.fd.get(), SourcesOf(*fresh), /*clear_holes=*/true));
  EXPECT_TRUE(Content(*fresh) == Content(*memory));
}

TEST(MemoryFile, ADiffOverItsBaseIsTheWhole) {
  const auto memory = SomeMemory();
  const auto other = SomeMemory();
  DiffMemory diff = {{1}, {PageWords(3 * kMiB / kPage / 64), PageWords(2 * kMiB / kPage / 64)}};
  const auto change = [&](size_t region, uint64_t page, uint8_t value) {
    memset(other->regions()[region].host + page * kPage, value, kPage);
    SetPages(diff.pages[region], page, 1);
  };
  change(0, 0, 0);  // a page of content becomes zeros
  change(0, 63, 7);
  change(0, 64, 8);
  change(1, 511, 9);
  const TemporaryFile base = MakeFile(), file = MakeFile();
  ASSERT_OK(WriteMemoryFile(SourcesOf(*memory), base.output.get()));
  ASSERT_OK_AND_ASSIGN(const MemoryWritten written,
                       WriteMemoryFile(SourcesOf(*other, &diff), file.output.get()));
  EXPECT_EQ(written.data_bytes, 3 * kPage);
  EXPECT_THAT(DigestFile(file.fd.get()), IsOkAndHolds(written.crc64));
  const auto fresh = *GuestMemory::Create({{0, 3 * kMiB}, {uint64_t{1} << 32, 2 * kMiB}});
  ASSERT_OK(ReadMemoryFile(base.fd.get(), SourcesOf(*fresh), /*clear_holes=*/false));
  ASSERT_OK(ReadMemoryFile(file.fd.get(), SourcesOf(*fresh, &diff), /*clear_holes=*/true));
  EXPECT_TRUE(Content(*fresh) == Content(*other));
}

TEST(MemoryFile, AnotherSizeIsRefused) {
  const TemporaryFile file = MakeFile();
  MemoryShape shape;
  shape.regions = {{0, 2 * kMiB}};
  for (const uint64_t size : {uint64_t{0}, 2 * kMiB - 1, 2 * kMiB + 1, uint64_t{1} << 40}) {
    ASSERT_OK(file.output->SetSize(size));
    const absl::Status status = CheckMemoryFile(file.fd.get(), shape);
    EXPECT_EQ(ReasonOf(status), "MEMORY_FILE_MISMATCH");
    EXPECT_THAT(std::string(status.message()), HasSubstr("memory has 2097152"));
  }
  ASSERT_OK(file.output->SetSize(2 * kMiB));
  EXPECT_OK(CheckMemoryFile(file.fd.get(), shape));
  const Fd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_THAT(CheckMemoryFile(null.get(), shape),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("no regular file")));
}

TEST(MemoryFile, MalformedSources) {
  std::vector<uint8_t> bytes(2 * kPage);
  const uint64_t words[2] = {};
  const TemporaryFile file = MakeFile();
  const auto write = [&](MemorySource source, uint64_t chunk) {
    return WriteMemoryFile({source}, file.output.get(), {.chunk_bytes = chunk, .on_progress = {}});
  };
  EXPECT_THAT(write({.bytes = std::span(bytes).first(100)}, kPage),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(write({.bytes = bytes, .pages = words}, kPage),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(write({.bytes = bytes}, 100), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(write({.bytes = bytes}, 0), StatusIs(absl::StatusCode::kInvalidArgument));
}

// A disk that is full after some writes.
class FullFile : public OutputFile {
 public:
  explicit FullFile(int writes) : left_(writes) {}
  absl::Status Write(uint64_t, std::span<const uint8_t>) override {
    return left_.fetch_sub(1) > 0 ? absl::OkStatus() : PosixStatus(ENOSPC, "pwrite", "");
  }
  absl::Status SetSize(uint64_t) override { return absl::OkStatus(); }
  absl::Status Sync() override {
    synced_ = true;
    return absl::OkStatus();
  }
  bool synced() const { return synced_; }

 private:
  std::atomic<int> left_;
  bool synced_ = false;
};

TEST(MemoryFile, AFullDiskIsTheError) {
  const auto memory = SomeMemory();
  for (int writes = 0; writes < 5; ++writes) {
    FullFile file(writes);
    EXPECT_THAT(WriteMemoryFile(SourcesOf(*memory), &file, {.chunk_bytes = kPage}),
                HasErrno(ENOSPC));
    EXPECT_FALSE(file.synced());
  }
}

TEST(MemoryFile, Cancelled) {
  const auto memory = SomeMemory();
  std::atomic<bool> cancel = false;
  FullFile file(1 << 20);
  const absl::Status status = WriteMemoryFile(SourcesOf(*memory), &file,
                                              {.threads = 2,
                                               .chunk_bytes = kPage,
                                               .cancel = &cancel,
                                               .on_progress = [&](uint64_t) { cancel = true; }})
                                  .status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_FALSE(file.synced());
}

}  // namespace
}  // namespace drover
