// Random writes by guest, VMM and devices, against an oracle.
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "vmm/base/status_matchers.h"
#include "vmm/core/testing/dirty_suite.h"

namespace drover {
namespace {

constexpr uint64_t kPage = 4096;

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* const text = getenv(name);
  uint64_t value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

uint64_t Rounds(uint64_t otherwise) { return FromEnvironment("DROVER_DIRTY_ROUNDS", otherwise); }
uint64_t Seed() { return FromEnvironment("DROVER_DIRTY_SEED", 1); }

using Pages = std::set<uint64_t>;

// What a log of whole slots must give, exactly: the pages of each region by their addresses.
class Oracle {
 public:
  explicit Oracle(bool manual) : manual_(manual) {}

  void AddRegion(const GuestRange& range) { regions_.push_back(range); }
  void RemoveRegion(const GuestRange& range) {
    std::erase(regions_, range);
    Forget(range);
  }

  void Start(bool all, bool initially_set) {
    vcpus_.clear();
    others_.clear();
    logging_ = true;
    if (!all) return;
    for (const GuestRange& range : regions_) {
      Note(range.start, range.size, &others_);
      if (initially_set) Note(range.start, range.size, &vcpus_);
    }
  }
  void Stop() { logging_ = false; }

  // A new region's pages are all new, and KVM has it as the last Start had it.
  void Appear(const GuestRange& range, bool initially_set) {
    if (!logging_) return;
    Note(range.start, range.size, &others_);
    if (initially_set) Note(range.start, range.size, &vcpus_);
  }
  void GuestWrote(uint64_t address) { Note(address, 1, &vcpus_); }
  void OtherWrote(uint64_t address, uint64_t size) { Note(address, size, &others_); }

  // The pages of the range, which are given by this harvest.
  Pages Harvest(const GuestRange& range, bool later) {
    Pages pages = Within(vcpus_, range);
    pages.merge(Within(others_, range));
    std::erase_if(others_, [&](uint64_t page) { return range.Contains(page); });
    if (!manual_ || !later)
      std::erase_if(vcpus_, [&](uint64_t page) { return range.Contains(page); });
    return pages;
  }
  void Rearmed(const Pages& pages) {
    for (const uint64_t page : pages) vcpus_.erase(page);
  }

 private:
  static Pages Within(const Pages& pages, const GuestRange& range) {
    return {pages.lower_bound(range.start), pages.lower_bound(range.end())};
  }
  void Forget(const GuestRange& range) {
    for (Pages* pages : {&vcpus_, &others_})
      std::erase_if(*pages, [&](uint64_t page) { return range.Contains(page); });
  }
  void Note(uint64_t address, uint64_t size, Pages* pages) {
    if (!logging_) return;
    const uint64_t first = std::max(address / kPage * kPage, DirtySuite::kFirst);
    for (uint64_t at = first; at < address + size; at += kPage) pages->insert(at);
  }

  const bool manual_;
  bool logging_ = false;
  std::vector<GuestRange> regions_;
  Pages vcpus_;   // in the backend's record
  Pages others_;  // noted by us
};

// One run of rounds, in each of which some pages are written and a harvest is compared with what it
// must give, page for page.
class Lockstep {
 public:
  explicit Lockstep(DirtySuite* suite) : suite_(*suite), oracle_(suite->manual()) {
    oracle_.AddRegion(DirtySuite::kLow);
    oracle_.AddRegion(DirtySuite::kHigh);
    random_.seed(Seed());
    Start();
  }

  void Round() {
    for (uint64_t i = Below(3); i > 0; --i) Guest();
    for (uint64_t i = Below(4); i > 0; --i) Vmm();
    for (uint64_t i = Below(3); i > 0; --i) Device();
    if (OneIn(50)) ChangeRegions();
    if (OneIn(100)) Restart();
    Check();
  }

 private:
  static constexpr GuestRange kLow = DirtySuite::kLow;
  static constexpr GuestRange kHigh = DirtySuite::kHigh;
  static constexpr GuestRange kAdded = {DirtySuite::kExtra, 67 * kPage};
  static constexpr GuestRange kEverything = {0, uint64_t{1} << 40};

  DirtyLog& log() { return suite_.log(); }
  GuestMemory& memory() { return suite_.memory(); }
  uint64_t Below(uint64_t limit) { return random_() % limit; }
  bool OneIn(uint64_t n) { return Below(n) == 0; }

  uint64_t SomeAddress() {
    const uint64_t which = Below(added_ ? 8 : 7);
    if (which == 7) return kAdded.start + Below(kAdded.size / 4) * 4;
    if (which >= 5) return kHigh.start + Below(kHigh.size / 4) * 4;
    return DirtySuite::kFirst + Below((kLow.size - DirtySuite::kFirst) / 4) * 4;
  }
  uint64_t RoomAt(uint64_t address) {
    for (const GuestRange& range : {kLow, kHigh, kAdded})
      if (range.Contains(address)) return range.end() - address;
    return 0;
  }

  void Start() {
    all_ = OneIn(3);
    ASSERT_OK(log().Start(all_ ? DirtyStart::kAll : DirtyStart::kClean));
    oracle_.Start(all_, log().choice().initially_set);
  }

  void Guest() {
    std::vector<uint64_t> addresses(1 + (OneIn(100) ? Below(1000) : Below(12)));
    for (uint64_t& address : addresses) {
      address = SomeAddress();
      oracle_.GuestWrote(address);
    }
    const auto id = static_cast<uint32_t>(Below(suite_.guests()));
    ASSERT_OK(suite_.guest(id).Write(addresses, static_cast<uint32_t>(random_()), &log()));
  }

  void Vmm() {
    const uint64_t address = SomeAddress();
    if (kAdded.Contains(address)) return;
    const uint64_t size = std::min(RoomAt(address), 1 + Below(OneIn(4) ? 3 * kPage : 64));
    ASSERT_OK(memory().Write(address, std::vector<uint8_t>(size, 5)));
    oracle_.OtherWrote(address, size);
  }

  void Device() {
    const uint64_t address = SomeAddress();
    const uint64_t size = std::min(RoomAt(address), 1 + Below(2 * kPage));
    if (kAdded.Contains(address) || OneIn(2)) {
      ASSERT_OK(log().MarkDirty(address, size));
    } else {
      ASSERT_OK_AND_ASSIGN(const auto host, memory().HostRange(address, size));
      std::fill(host.begin(), host.end(), 6);
      memory().MarkDirty(address, size);
    }
    oracle_.OtherWrote(address, size);
  }

  void ChangeRegions() {
    if (added_) {
      ASSERT_OK(suite_.vm().RemoveMemoryRegion(*added_));
      oracle_.RemoveRegion(kAdded);
      added_.reset();
      return;
    }
    added_ = suite_.AddRegion(kAdded.start, kAdded.size / kPage);
    oracle_.AddRegion(kAdded);
    oracle_.Appear(kAdded, all_ && log().choice().initially_set);
  }

  void Restart() {
    ASSERT_OK(log().Stop());
    oracle_.Stop();
    Guest();
    Vmm();
    Start();
  }

  void Check() {
    const DirtyClear clear = OneIn(4) ? DirtyClear::kLater : DirtyClear::kNow;
    const bool later = clear == DirtyClear::kLater;
    PageSet set;
    Pages expected;
    if (OneIn(5)) {
      ASSERT_OK(log().HarvestSlot(1, &set, clear));
      expected = oracle_.Harvest(kHigh, later);
    } else {
      ASSERT_OK(log().Harvest(&set, clear));
      expected = oracle_.Harvest(kEverything, later);
    }
    ASSERT_EQ(DirtySuite::PagesOf(set), expected);
    if (!later || set.Find(1) == nullptr || OneIn(2)) return;
    ASSERT_OK(log().Rearm(set, 1, 64, 128));
    const GuestRange part = {kHigh.start + 64 * kPage, 128 * kPage};
    oracle_.Rearmed({expected.lower_bound(part.start), expected.lower_bound(part.end())});
  }

  DirtySuite& suite_;
  Oracle oracle_;
  std::mt19937_64 random_;
  bool all_ = false;  // how the log was started
  std::optional<MemorySlot> added_;
};

// Copies what harvests name, while vCPUs, VMM and devices write, as a migration does. Each writer
// has its own word of each page, so that none undoes another's writes.
class Copier {
 public:
  explicit Copier(DirtySuite* suite)
      : suite_(*suite), copy_(suite->memory().size()), log_(&suite->log()) {}

  void Run(uint64_t harvests) {
    ASSERT_OK(log_->Start(DirtyStart::kAll));
    std::vector<std::thread> writers;
    for (uint32_t id = 0; id < suite_.guests(); ++id)
      writers.emplace_back([this, id] { GuestLoop(id); });
    writers.emplace_back([this] { VmmLoop(); });
    writers.emplace_back([this] { DeviceLoop(); });
    for (uint64_t i = 0; i < harvests && !testing::Test::HasFailure(); ++i) Harvest(i % 3 == 0);
    stop_ = true;
    for (std::thread& writer : writers) writer.join();
    Harvest(false);
    Compare();
    ASSERT_OK(log_->Stop());
  }

 private:
  static constexpr uint64_t kVmmWord = 64, kDeviceWord = 128, kGuestWords = 192;

  uint64_t SomePage(std::mt19937_64& random) {
    const uint64_t low = (DirtySuite::kLow.size - DirtySuite::kFirst) / kPage;
    const uint64_t page = random() % (low + DirtySuite::kHigh.size / kPage);
    return page < low ? DirtySuite::kFirst + page * kPage
                      : DirtySuite::kHigh.start + (page - low) * kPage;
  }

  void GuestLoop(uint32_t id) {
    std::mt19937_64 random(Seed() + 10 + id);
    for (uint32_t value = 1; !stop_; ++value) {
      std::vector<uint64_t> addresses(1 + random() % 100);
      for (uint64_t& at : addresses) at = SomePage(random) + kGuestWords + 64 * id;
      ASSERT_OK(suite_.guest(id).Write(addresses, value, log_));
    }
  }

  void VmmLoop() {
    std::mt19937_64 random(Seed() + 1);
    for (uint64_t value = 1; !stop_; ++value) {
      const std::span bytes(reinterpret_cast<const uint8_t*>(&value), sizeof(value));
      ASSERT_OK(suite_.memory().Write(SomePage(random) + kVmmWord, bytes));
      if (value % 64 == 0) std::this_thread::yield();
    }
  }

  void DeviceLoop() {
    std::mt19937_64 random(Seed() + 2);
    for (uint64_t value = 1; !stop_; ++value) {
      const uint64_t address = SomePage(random) + kDeviceWord;
      ASSERT_OK_AND_ASSIGN(const auto host, suite_.memory().HostRange(address, sizeof(value)));
      memcpy(host.data(), &value, sizeof(value));
      if (value % 2 == 0) suite_.memory().MarkDirty(address, sizeof(value));
      if (value % 2 == 1) {
        EXPECT_OK(log_->MarkDirty(address, sizeof(value)));
      }
      if (value % 64 == 0) std::this_thread::yield();
    }
  }

  void Harvest(bool later) {
    PageSet set;
    ASSERT_OK(log_->Harvest(&set, later ? DirtyClear::kLater : DirtyClear::kNow));
    if (later) Rearm(set);
    set.ForEachRun([&](const PageSet::Region& region, uint64_t first, uint64_t pages) {
      const uint64_t offset = suite_.memory().regions()[region.slot].file_offset + first * kPage;
      Read(offset, {copy_.data() + offset, pages * kPage});
    });
  }

  void Rearm(const PageSet& set) {
    for (const PageSet::Region& region : set.regions())
      for (uint64_t at = 0; at < region.pages(); at += 128)
        EXPECT_OK(log_->Rearm(set, region.slot, at, std::min<uint64_t>(128, region.pages() - at)));
  }

  // By the file: whatever writes at the same time is nobody's race.
  void Read(uint64_t offset, std::span<uint8_t> out) {
    ASSERT_EQ(pread(suite_.memory().fd(), out.data(), out.size(), static_cast<off_t>(offset)),
              static_cast<ssize_t>(out.size()));
  }

  void Compare() {
    std::vector<uint8_t> now(copy_.size());
    Read(0, now);
    for (uint64_t at = DirtySuite::kFirst; at < now.size(); at += kPage)
      ASSERT_EQ(memcmp(now.data() + at, copy_.data() + at, kPage), 0)
          << "a write to the page at file offset " << at << " was missed";
  }

  DirtySuite& suite_;
  std::vector<uint8_t> copy_;
  DirtyLog* const log_;
  std::atomic<bool> stop_ = false;
};

}  // namespace

TEST_P(DirtySuite, HarvestsAreExact) {
  Lockstep lockstep(this);
  for (uint64_t i = Rounds(400); i > 0 && !HasFailure(); --i) {
    SCOPED_TRACE(i);
    lockstep.Round();
  }
}

TEST_P(DirtySuite, NoWriteIsMissedWhileAllRun) {
  constexpr uint64_t kHarvestsOfOne = 500;
  const uint64_t harvests = Rounds(400);
  for (uint64_t done = 0; done < harvests && !HasFailure(); done += kHarvestsOfOne)
    Copier(this).Run(std::min(kHarvestsOfOne, harvests - done));
}

}  // namespace drover
