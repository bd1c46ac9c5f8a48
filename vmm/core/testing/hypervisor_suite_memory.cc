// Memory slots, mappings, dirty logs and the balloon.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "vmm/base/mapped_region.h"
#include "vmm/base/status_matchers.h"
#include "vmm/core/memory_slots.h"
#include "vmm/core/testing/hypervisor_suite.h"

namespace drover {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::Each;

auto IsRefused(StatusCode code, int error) { return AllOf(StatusIs(code), HasErrno(error)); }
auto UnknownSlotError() { return IsRefused(StatusCode::kNotFound, ENOENT); }
auto MalformedError() { return IsRefused(StatusCode::kInvalidArgument, EINVAL); }
auto OutsideError() { return IsRefused(StatusCode::kOutOfRange, EFAULT); }
auto WrapsError() { return IsRefused(StatusCode::kOutOfRange, EOVERFLOW); }
auto OverlapError() { return IsRefused(StatusCode::kAlreadyExists, EEXIST); }
auto UnsupportedError() { return IsRefused(StatusCode::kUnimplemented, EOPNOTSUPP); }

// A region whose size and place the test chooses.
class OddRegion : public MemoryRegion {
 public:
  OddRegion(uint8_t* data, uint64_t size) : data_(data), size_(size) {}
  uint8_t* data() const override { return data_; }
  uint64_t size() const override { return size_; }

 private:
  uint8_t* const data_;
  const uint64_t size_;
};

Fd FileOf(uint64_t pages, uint8_t byte) {
  Fd file = MakeMemFd("suite", pages * PageSize()).value();
  const std::string page(PageSize(), static_cast<char>(byte));
  for (uint64_t i = 0; i < pages; ++i) EXPECT_OK(WriteAll(file.get(), page));
  return file;
}

TEST_P(HypervisorSuite, CreateVmNeedsMemory) {
  EXPECT_THAT(hypervisor().CreateVm(nullptr), MalformedError());
}

TEST_P(HypervisorSuite, PeerCreateVm) {
  const std::unique_ptr<Vm> made = MakeVm({{0, kPage}});
  ASSERT_NE(made, nullptr);
  EXPECT_EQ(made->memory().size(), kPage);
}

TEST_P(HypervisorSuite, CreateVmWithMoreRegionsThanSlots) {
  ASSERT_OK(hypervisor().Withhold({"memory_slots"}));
  EXPECT_THAT(hypervisor().CreateVm(GuestMemory::Create({{0, kPage}}).value()),
              IsRefused(StatusCode::kResourceExhausted, ENOSPC));
}

TEST_P(HypervisorSuite, MemoryBeyondThePhysicalBitsOfTheGuest) {
  const uint32_t bits = vm().GuestPhysicalBits();
  if (bits >= 63) GTEST_SKIP() << "SKIPPED: no address is beyond " << bits << " bits";
  const uint64_t end = uint64_t{1} << bits;
  EXPECT_THAT(Add(end, 1), OutsideError());
  EXPECT_THAT(Add(end - kPage, 2), OutsideError());
  EXPECT_THAT(Add(uint64_t{1} << 63, 1), OutsideError());
  EXPECT_THAT(hypervisor().CreateVm(GuestMemory::Create({{0, kPage}, {end, kPage}}).value()),
              OutsideError());
  EXPECT_THAT(Add(kRam, 1), IsOkAndHolds(1u)) << "no slot is lost";
}

TEST_P(HypervisorSuite, PeerGetMemory) {
  const uint8_t byte = 67;
  ASSERT_OK(vm().memory().Write(0xf0, {&byte, 1}));
  uint8_t read = 0;
  ASSERT_OK(vm().memory().Read(0xf0, {&read, 1}));
  EXPECT_EQ(read, 67);
}

TEST_P(HypervisorSuite, PeerSendVm) {
  std::unique_ptr<Vm> made = MakeVm({{0, kPage}});
  ASSERT_NE(made, nullptr);
  std::thread([vm = std::move(made)] { EXPECT_EQ(vm->memory().size(), kPage); }).join();
}

TEST_P(HypervisorSuite, PeerCloneVm) {
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Vm> clone, vm().Clone());
  const uint8_t byte = 9;
  ASSERT_OK(vm().memory().Write(0x100, {&byte, 1}));
  uint8_t read = 0;
  ASSERT_OK(clone->memory().Read(0x100, {&read, 1}));
  EXPECT_EQ(read, 9);
}

TEST_P(HypervisorSuite, CloneSharesSlots) {
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Vm> clone, vm().Clone());
  ASSERT_OK_AND_ASSIGN(const MemorySlot slot, Add(kRam, 1));
  EXPECT_THAT(clone->AddMemoryRegion(kRam, Region(kPage), false, false, CacheType::kCoherent),
              OverlapError());
  EXPECT_OK(clone->RemoveMemoryRegion(slot));
  EXPECT_THAT(vm().RemoveMemoryRegion(slot), UnknownSlotError());
}

TEST_P(HypervisorSuite, CloneOutlivesTheFirstHandle) {
  std::unique_ptr<Vm> first = MakeVm({{0, kPage}});
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Vm> clone, first->Clone());
  first.reset();
  const uint8_t byte = 1;
  EXPECT_OK(clone->memory().Write(0, {&byte, 1}));
  EXPECT_OK(clone->AddMemoryRegion(kRam, Region(kPage), false, false, CacheType::kCoherent));
}

TEST_P(HypervisorSuite, PeerAddMemory) {
  std::unique_ptr<Vm> made = MakeVm({{0, kPage}, {5 * kPage, 5 * kPage}});
  ASSERT_NE(made, nullptr);
  const auto add = [&](uint64_t at) {
    return made->AddMemoryRegion(at, Region(kPage), false, false, CacheType::kCoherent);
  };
  EXPECT_THAT(add(kPage), IsOkAndHolds(2u));
  EXPECT_THAT(add(0x10 * kPage), IsOkAndHolds(3u));
}

TEST_P(HypervisorSuite, PeerAddMemoryReadOnly) {
  const auto added = vm().AddMemoryRegion(kRam, Region(kPage), true, false, CacheType::kCoherent);
  if (hypervisor().capabilities().read_only_memory) {
    EXPECT_OK(added);
  } else {
    EXPECT_THAT(added, UnsupportedError());
  }
}

TEST_P(HypervisorSuite, NonCoherentMemoryIsAHint) {
  EXPECT_OK(vm().AddMemoryRegion(kRam, Region(kPage), false, false, CacheType::kNonCoherent));
}

TEST_P(HypervisorSuite, PeerRemoveMemory) {
  std::unique_ptr<MemoryRegion> region = Region(2 * kPage);
  const uint8_t* const data = region->data();
  ASSERT_OK_AND_ASSIGN(const MemorySlot slot, vm().AddMemoryRegion(kRam, std::move(region), false,
                                                                   false, CacheType::kCoherent));
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<MemoryRegion> back, vm().RemoveMemoryRegion(slot));
  EXPECT_EQ(back->data(), data);
  EXPECT_EQ(back->size(), 2 * kPage);
  EXPECT_THAT(vm().RemoveMemoryRegion(slot), UnknownSlotError());
}

// The peer refuses slot 0; here the initial RAM may go as any other memory.
TEST_P(HypervisorSuite, PeerRemoveInvalidMemoryDiffers) {
  uint8_t* const ram = vm().memory().regions()[0].host;
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<MemoryRegion> back, vm().RemoveMemoryRegion(0));
  EXPECT_EQ(back->data(), ram);
  EXPECT_EQ(back->size(), kRam);
  EXPECT_THAT(Add(0, 1), IsOkAndHolds(0u));
  uint8_t byte = 1;
  EXPECT_OK(vm().memory().Write(0, {&byte, 1})) << "the host still has it";
}

TEST_P(HypervisorSuite, RemoveUnknownMemory) {
  for (const MemorySlot slot : {1u, 77u, ~0u})
    EXPECT_THAT(vm().RemoveMemoryRegion(slot), UnknownSlotError());
}

TEST_P(HypervisorSuite, PeerOverlapMemory) {
  EXPECT_THAT(Add(kRam - 2 * kPage, 2), OverlapError());
  EXPECT_THAT(Add(kRam - kPage, 2), OverlapError());
}

TEST_P(HypervisorSuite, OverlapWithAddedMemory) {
  ASSERT_OK(Add(kRam + 4 * kPage, 2));
  EXPECT_THAT(Add(kRam + 3 * kPage, 2), OverlapError());
  EXPECT_THAT(Add(kRam + 5 * kPage, 2), OverlapError());
  EXPECT_THAT(Add(kRam + 4 * kPage, 2), OverlapError());
  EXPECT_THAT(Add(kRam, 16), OverlapError());
  EXPECT_OK(Add(kRam + 3 * kPage, 1)) << "touching is no overlap";
  EXPECT_OK(Add(kRam + 6 * kPage, 1)) << "touching is no overlap";
}

TEST_P(HypervisorSuite, SmallestFreedSlotFirst) {
  for (MemorySlot i = 1; i <= 4; ++i) ASSERT_THAT(Add(kRam + i * kPage, 1), IsOkAndHolds(i));
  ASSERT_OK(vm().RemoveMemoryRegion(3));
  ASSERT_OK(vm().RemoveMemoryRegion(1));
  EXPECT_THAT(Add(2 * kRam, 1), IsOkAndHolds(1u));
  EXPECT_THAT(Add(3 * kRam, 1), IsOkAndHolds(3u));
  EXPECT_THAT(Add(4 * kRam, 1), IsOkAndHolds(5u));
}

TEST_P(HypervisorSuite, FailedAddGivesItsSlotBack) {
  EXPECT_THAT(Add(0, 1), OverlapError());
  EXPECT_THAT(Add(kRam + 1, 1), MalformedError());
  EXPECT_THAT(Add(kRam, 1), IsOkAndHolds(1u));
}

TEST_P(HypervisorSuite, AddRoundsTheSizeUp) {
  ASSERT_OK_AND_ASSIGN(const MappedRegion two,
                       MappedRegion::Anonymous(2 * kPage, PROT_READ | PROT_WRITE));
  ASSERT_THAT(vm().AddMemoryRegion(kRam, std::make_unique<OddRegion>(two.data(), kPage + 1), false,
                                   false, CacheType::kCoherent),
              IsOkAndHolds(1u));
  EXPECT_THAT(Add(kRam + kPage, 1), OverlapError());
  EXPECT_OK(Add(kRam + 2 * kPage, 1));
  EXPECT_OK(vm().RemoveMemoryRegion(1));
}

TEST_P(HypervisorSuite, AddRefusesBadArguments) {
  const auto add = [&](uint64_t at, std::unique_ptr<MemoryRegion> region) {
    return vm().AddMemoryRegion(at, std::move(region), false, false, CacheType::kCoherent);
  };
  const std::unique_ptr<MemoryRegion> page = Region(2 * kPage);
  const auto odd = [&](uint64_t offset, uint64_t size) {
    return std::make_unique<OddRegion>(page->data() + offset, size);
  };
  EXPECT_THAT(add(kRam, nullptr), MalformedError());
  EXPECT_THAT(add(kRam, odd(0, 0)), MalformedError());
  EXPECT_THAT(add(kRam, odd(8, kPage)), MalformedError());
  EXPECT_THAT(add(kRam + 8, odd(0, kPage)), MalformedError());
  EXPECT_THAT(add(~uint64_t{0} & ~(kPage - 1), odd(0, 2 * kPage)), WrapsError());
  EXPECT_THAT(add(~uint64_t{0} & ~(kPage - 1), odd(0, kPage)), WrapsError());
  EXPECT_THAT(add(kRam, odd(0, ~uint64_t{0})), WrapsError());
}

TEST_P(HypervisorSuite, PeerSyncMemory) {
  ASSERT_OK_AND_ASSIGN(const MemorySlot slot, vm().AddMemoryRegion(kRam, Arena(4 * kPage), false,
                                                                   false, CacheType::kCoherent));
  EXPECT_OK(vm().MsyncMemoryRegion(slot, 0, 4 * kPage));
  EXPECT_OK(vm().MsyncMemoryRegion(slot, 4 * kPage, 0));
  EXPECT_THAT(vm().MsyncMemoryRegion(slot, 4 * kPage + 1, 0), MalformedError());
  EXPECT_THAT(vm().MsyncMemoryRegion(slot + 1, 4 * kPage, 0), UnknownSlotError());
}

TEST_P(HypervisorSuite, PartsOfARegionAreChecked) {
  ASSERT_OK_AND_ASSIGN(const MemorySlot slot, Add(kRam, 4));
  using Method = absl::Status (Vm::*)(MemorySlot, uint64_t, uint64_t);
  for (const Method method :
       {&Vm::MsyncMemoryRegion, &Vm::MadvisePageoutMemoryRegion, &Vm::MadviseRemoveMemoryRegion}) {
    EXPECT_OK((vm().*method)(slot, kPage, kPage));
    EXPECT_THAT((vm().*method)(99, 0, kPage), UnknownSlotError());
    EXPECT_THAT((vm().*method)(slot, 1, kPage), MalformedError());
    EXPECT_THAT((vm().*method)(slot, 0, kPage + 1), MalformedError());
    EXPECT_THAT((vm().*method)(slot, 0, 5 * kPage), OutsideError());
    EXPECT_THAT((vm().*method)(slot, 5 * kPage, 0), OutsideError());
    EXPECT_THAT((vm().*method)(slot, ~(kPage - 1), 2 * kPage), WrapsError());
  }
}

TEST_P(HypervisorSuite, MadviseRemoveFreesThePages) {
  std::unique_ptr<MemoryRegion> region = Region(2 * kPage);
  uint8_t* const data = region->data();
  memset(data, 0x5a, 2 * kPage);
  ASSERT_OK_AND_ASSIGN(const MemorySlot slot, vm().AddMemoryRegion(kRam, std::move(region), false,
                                                                   false, CacheType::kCoherent));
  ASSERT_OK(vm().MadviseRemoveMemoryRegion(slot, kPage, kPage));
  EXPECT_EQ(data[0], 0x5a);
  EXPECT_EQ(data[kPage], 0);
}

TEST_P(HypervisorSuite, MadviseRemoveOfPrivateMemoryIsTheKernelsError) {
  const Fd file = FileOf(1, 1);
  ASSERT_OK_AND_ASSIGN(MappedRegion map,
                       MappedRegion::MapPrivate(file.get(), 0, kPage, PROT_READ | PROT_WRITE));
  ASSERT_OK_AND_ASSIGN(const MemorySlot slot,
                       vm().AddMemoryRegion(kRam, std::make_unique<PlainRegion>(std::move(map)),
                                            false, false, CacheType::kCoherent));
  EXPECT_THAT(vm().MadviseRemoveMemoryRegion(slot, 0, kPage), HasErrno(EACCES));
}

TEST_P(HypervisorSuite, PeerDirtyLogSize) {
  EXPECT_EQ(DirtyLogBytes(0), 0u);
  EXPECT_EQ(DirtyLogBytes(kPage), 1u);
  EXPECT_EQ(DirtyLogBytes(8 * kPage), 1u);
  EXPECT_EQ(DirtyLogBytes(8 * kPage + 1), 2u);
  EXPECT_EQ(DirtyLogBytes(100 * kPage), 13u);
}

TEST_P(HypervisorSuite, DirtyLogChecksItsArguments) {
  ASSERT_OK_AND_ASSIGN(const MemorySlot logs, Add(kRam, 100, true));
  ASSERT_OK_AND_ASSIGN(const MemorySlot silent, Add(2 * kRam, 100, false));
  std::vector<uint8_t> bitmap(64, 0xff);
  EXPECT_THAT(vm().GetDirtyLog(77, bitmap), UnknownSlotError());
  EXPECT_THAT(vm().GetDirtyLog(silent, bitmap), StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_THAT(vm().GetDirtyLog(logs, std::span(bitmap).first(12)), MalformedError());
  EXPECT_THAT(vm().GetDirtyLog(logs, {}), MalformedError());
  EXPECT_THAT(bitmap, Each(0xff)) << "a refusal changes nothing";
  EXPECT_OK(vm().GetDirtyLog(logs, std::span(bitmap).first(13)));
  EXPECT_EQ(bitmap[12], 0);
  EXPECT_EQ(bitmap[13], 0xff) << "not beyond the span";
  EXPECT_OK(vm().GetDirtyLog(logs, bitmap));
  EXPECT_THAT(bitmap, Each(0));
}

TEST_P(HypervisorSuite, DirtyLogOfInitialMemory) {
  std::vector<uint8_t> bitmap(DirtyLogBytes(kRam));
  EXPECT_THAT(vm().GetDirtyLog(0, bitmap), StatusIs(StatusCode::kFailedPrecondition));
  ASSERT_OK(vm().SetDirtyLogging(0, true));
  EXPECT_OK(vm().SetDirtyLogging(0, true)) << "again is fine";
  EXPECT_OK(vm().GetDirtyLog(0, bitmap));
  EXPECT_THAT(bitmap, Each(0));
  ASSERT_OK(vm().SetDirtyLogging(0, false));
  EXPECT_THAT(vm().GetDirtyLog(0, bitmap), StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_THAT(vm().SetDirtyLogging(5, true), UnknownSlotError());
}

TEST_P(HypervisorSuite, HostWritesAreNotLogged) {
  ASSERT_OK(vm().SetDirtyLogging(0, true));
  const uint8_t byte = 3;
  ASSERT_OK(vm().memory().Write(kPage, {&byte, 1}));
  std::vector<uint8_t> bitmap(DirtyLogBytes(kRam));
  ASSERT_OK(vm().GetDirtyLog(0, bitmap));
  EXPECT_THAT(bitmap, Each(0));
}

TEST_P(HypervisorSuite, ArenaMapsFiles) {
  std::unique_ptr<MemoryRegion> arena = Arena(4 * kPage);
  uint8_t* const data = arena->data();
  ASSERT_OK_AND_ASSIGN(const MemorySlot slot, vm().AddMemoryRegion(kRam, std::move(arena), false,
                                                                   false, CacheType::kCoherent));
  const Fd file = FileOf(2, 0x77);
  EXPECT_EQ(data[kPage], 0);
  ASSERT_OK(vm().AddFdMapping(slot, kPage, kPage, file, kPage, Protection::kReadWrite));
  EXPECT_EQ(data[kPage], 0x77);
  data[kPage] = 0x78;
  ASSERT_OK(vm().AddFdMapping(slot, 2 * kPage, kPage, file, kPage, Protection::kRead));
  EXPECT_EQ(data[2 * kPage], 0x78) << "shared";
  ASSERT_OK(vm().RemoveMapping(slot, 0, 4 * kPage));
  EXPECT_EQ(data[kPage], 0);
  EXPECT_OK(vm().RemoveMapping(slot, kPage, kPage)) << "again is fine";
  EXPECT_OK(vm().AddFdMapping(slot, 0, 2 * kPage, file, 0, Protection::kRead));
  EXPECT_OK(vm().AddFdMapping(slot, kPage, kPage, file, 0, Protection::kRead)) << "over another";
}

TEST_P(HypervisorSuite, ArenaTakesASealedFileForReading) {
  ASSERT_OK_AND_ASSIGN(const MemorySlot slot, vm().AddMemoryRegion(kRam, Arena(kPage), false, false,
                                                                   CacheType::kCoherent));
  const Fd file = FileOf(1, 0x11);
  ASSERT_EQ(fcntl(file.get(), F_ADD_SEALS, F_SEAL_WRITE), 0);
  EXPECT_OK(vm().AddFdMapping(slot, 0, kPage, file, 0, Protection::kRead));
  EXPECT_THAT(vm().AddFdMapping(slot, 0, kPage, file, 0, Protection::kReadWrite), HasErrno(EPERM));
}

TEST_P(HypervisorSuite, ArenaChecksItsArguments) {
  ASSERT_OK_AND_ASSIGN(const MemorySlot slot, vm().AddMemoryRegion(kRam, Arena(4 * kPage), false,
                                                                   false, CacheType::kCoherent));
  const Fd file = FileOf(2, 1);
  const auto map = [&](MemorySlot at_slot, uint64_t offset, uint64_t size, uint64_t fd_offset) {
    return vm().AddFdMapping(at_slot, offset, size, file, fd_offset, Protection::kRead);
  };
  EXPECT_THAT(map(99, 0, kPage, 0), UnknownSlotError());
  EXPECT_THAT(map(slot, 1, kPage, 0), MalformedError());
  EXPECT_THAT(map(slot, 0, kPage - 1, 0), MalformedError());
  EXPECT_THAT(map(slot, 0, 0, 0), MalformedError());
  EXPECT_THAT(map(slot, 0, kPage, 12), MalformedError());
  EXPECT_THAT(map(slot, 0, 5 * kPage, 0), OutsideError());
  EXPECT_THAT(map(slot, 4 * kPage, kPage, 0), OutsideError());
  EXPECT_THAT(map(slot, ~(kPage - 1), 2 * kPage, 0), WrapsError());
  EXPECT_THAT(map(slot, 0, kPage, ~(kPage - 1)), WrapsError());
  EXPECT_THAT(vm().AddFdMapping(slot, 0, kPage, Fd(), 0, Protection::kRead), MalformedError());
  EXPECT_THAT(vm().RemoveMapping(99, 0, kPage), UnknownSlotError());
  EXPECT_THAT(vm().RemoveMapping(slot, 1, kPage), MalformedError());
  EXPECT_THAT(vm().RemoveMapping(slot, 0, 0), MalformedError());
  EXPECT_THAT(vm().RemoveMapping(slot, 0, 5 * kPage), OutsideError());
}

TEST_P(HypervisorSuite, OnlyAnArenaTakesMappings) {
  ASSERT_OK_AND_ASSIGN(const MemorySlot slot, Add(kRam, 1));
  const Fd file = FileOf(1, 1);
  for (const MemorySlot no_arena : {MemorySlot{0}, slot}) {
    EXPECT_THAT(vm().AddFdMapping(no_arena, 0, kPage, file, 0, Protection::kRead),
                UnsupportedError());
    EXPECT_THAT(vm().RemoveMapping(no_arena, 0, kPage), UnsupportedError());
  }
}

TEST_P(HypervisorSuite, BalloonInflateFreesHostMemory) {
  const std::vector<uint8_t> bytes(16 * kPage, 0xee);
  ASSERT_OK(vm().memory().Write(0, bytes));
  struct stat before, after;
  ASSERT_EQ(fstat(vm().memory().fd(), &before), 0);
  ASSERT_OK(vm().HandleBalloonEvent(BalloonInflate{4 * kPage, 8 * kPage}));
  ASSERT_EQ(fstat(vm().memory().fd(), &after), 0);
  EXPECT_EQ(before.st_blocks - after.st_blocks, static_cast<blkcnt_t>(8 * kPage / 512));
  uint8_t edge[2];
  ASSERT_OK(vm().memory().Read(4 * kPage - 1, edge));
  EXPECT_EQ(edge[0], 0xee);
  EXPECT_EQ(edge[1], 0);
}

TEST_P(HypervisorSuite, BalloonChecksItsArguments) {
  EXPECT_THAT(vm().HandleBalloonEvent(BalloonInflate{1, kPage}), MalformedError());
  EXPECT_THAT(vm().HandleBalloonEvent(BalloonInflate{0, kPage + 1}), MalformedError());
  EXPECT_THAT(vm().HandleBalloonEvent(BalloonInflate{0, 0}), MalformedError());
  EXPECT_THAT(vm().HandleBalloonEvent(BalloonInflate{kRam, kPage}), OutsideError());
  EXPECT_THAT(vm().HandleBalloonEvent(BalloonInflate{kRam - kPage, 2 * kPage}), OutsideError());
  EXPECT_THAT(vm().HandleBalloonEvent(BalloonInflate{~(kPage - 1), 2 * kPage}), WrapsError());
  EXPECT_OK(vm().HandleBalloonEvent(BalloonDeflate{0, kPage}));
  EXPECT_OK(vm().HandleBalloonEvent(BalloonTargetReached{12345}));
}

TEST_P(HypervisorSuite, SlotsChangeFromSeveralThreads) {
  Vm& shared = vm();
  const auto churn = [&](uint64_t base) {
    for (int i = 0; i < 50; ++i) {
      const auto slot =
          shared.AddMemoryRegion(base, Region(kPage), false, i % 2 == 0, CacheType::kCoherent);
      ASSERT_OK(slot);
      ASSERT_OK(shared.MsyncMemoryRegion(*slot, 0, kPage));
      ASSERT_OK(shared.RemoveMemoryRegion(*slot));
    }
  };
  std::thread other(churn, 2 * kRam);
  churn(3 * kRam);
  other.join();
  EXPECT_THAT(Add(kRam, 1), IsOkAndHolds(1u)) << "every slot was given back";
}

}  // namespace
}  // namespace drover
