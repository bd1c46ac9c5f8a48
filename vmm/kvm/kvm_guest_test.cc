// What real guests see and do on KVM: exits, memory, dirty logs, ioevents, kicks, boot and reset.
// Tests named Peer... are twins of crosvm's in hypervisor/tests.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>

#include "vmm/base/status_matchers.h"
#include "vmm/core/memory_slots.h"
#include "vmm/kvm/testing/kvm_for_test.h"
#include "vmm/kvm/testing/mini_guest.h"

namespace drover {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kRam = 1 << 20;
constexpr uint64_t kCode = 0x1000;
constexpr uint32_t kExtra = 0x200000;      // where tests add memory
constexpr uint32_t kNowhere = 0xD0000000;  // never memory

// One access that left the guest.
struct Access {
  bool port;
  uint64_t address;
  bool write;
  std::vector<uint8_t> data;
  bool operator==(const Access&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Access& a) {
  out << (a.port ? "port " : "mmio ") << std::hex << a.address << (a.write ? " <-" : " ->");
  for (const uint8_t byte : a.data) out << " " << int{byte};
  return out;
}

class KvmGuest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<KvmHypervisor>> opened = OpenKvmForTest();
    if (absl::IsUnavailable(opened.status())) GTEST_SKIP() << "SKIPPED: " << opened.status();
    ASSERT_OK(opened);
    hypervisor_ = *std::move(opened);
    ASSERT_OK_AND_ASSIGN(auto memory, GuestMemory::Create({{0, kRam}}));
    ASSERT_OK_AND_ASSIGN(vm_, hypervisor_->CreateVm(std::move(memory)));
  }

  void Load(const MiniGuest& guest) { ASSERT_OK(vm_->memory().Write(kCode, guest.code())); }

  // Puts the code in place and vCPU 0 at its start, in protected mode.
  void Boot(const MiniGuest& guest) {
    Load(guest);
    if (vcpu_ == nullptr) {
      ASSERT_OK_AND_ASSIGN(vcpu_, vm_->CreateVcpu(0, 1));
    }
    ASSERT_OK(vcpu_->SetUpForBoot({.rip = kCode, .rsp = 0x8000}));
  }

  // One Run; accesses are noted, reads answered with `answer`'s bytes.
  VcpuExit Step(uint32_t answer = 0) {
    absl::StatusOr<VcpuExit> exit = vcpu_->Run();
    EXPECT_OK(exit);
    if (!exit.ok()) return UnknownExit{0};
    if (auto* port = std::get_if<PortExit>(&*exit)) {
      if (!port->is_write) Answer(port->data, port->size, answer);
      Note(true, port->port, port->is_write, port->data);
    }
    if (auto* mmio = std::get_if<MmioExit>(&*exit)) {
      if (!mmio->is_write) Answer(mmio->data, mmio->data.size(), answer);
      Note(false, mmio->address, mmio->is_write, mmio->data);
    }
    return *exit;
  }

  // Runs until the guest halts; every access is in accesses_.
  void RunToHalt(uint32_t answer = 0) {
    for (int i = 0; i < 10'000; ++i) {
      const VcpuExit exit = Step(answer);
      if (std::holds_alternative<HaltExit>(exit)) return;
      const bool access =
          std::holds_alternative<PortExit>(exit) || std::holds_alternative<MmioExit>(exit);
      ASSERT_TRUE(access) << "exit kind " << exit.index() << "\n" << vcpu_->DumpRegisters();
    }
    FAIL() << "no halt in 10000 exits";
  }

  void Expect(const std::vector<Access>& accesses) { EXPECT_EQ(accesses_, accesses); }

  uint8_t ByteAt(uint64_t address) {
    uint8_t byte = 0;
    EXPECT_OK(vm_->memory().Read(address, {&byte, 1}));
    return byte;
  }

  MemorySlot AddPage(uint8_t fill, bool read_only = false, bool log_dirty = false) {
    std::unique_ptr<MemoryRegion> region = PlainRegion::Anonymous(kPage).value();
    page_ = region->data();
    memset(page_, fill, kPage);
    const absl::StatusOr<MemorySlot> slot =
        vm_->AddMemoryRegion(kExtra, std::move(region), read_only, log_dirty, CacheType::kCoherent);
    EXPECT_OK(slot);
    return slot.value_or(0);
  }

  std::vector<uint64_t> DirtyPages(MemorySlot slot, uint64_t size) {
    std::vector<uint8_t> bitmap(DirtyLogBytes(size));
    EXPECT_OK(vm_->GetDirtyLog(slot, bitmap));
    std::vector<uint64_t> pages;
    for (uint64_t i = 0; i < bitmap.size() * 8; ++i)
      if (bitmap[i / 8] >> (i % 8) & 1) pages.push_back(i);
    return pages;
  }

  std::unique_ptr<KvmHypervisor> hypervisor_;
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<Vcpu> vcpu_;
  std::vector<Access> accesses_;
  uint8_t* page_ = nullptr;  // of AddPage

 private:
  static void Answer(std::span<uint8_t> data, size_t size, uint32_t answer) {
    for (size_t i = 0; i < data.size(); ++i)
      data[i] = static_cast<uint8_t>(answer >> (8 * (i % size)));
  }
  void Note(bool port, uint64_t address, bool write, std::span<const uint8_t> data) {
    accesses_.push_back({port, address, write, {data.begin(), data.end()}});
  }
};

TEST_F(KvmGuest, PeerIoExitHandler) {
  Boot(MiniGuest().MovAl(0x34).OutAl(0x10).InAl(0x20).OutAl(0x11).Halt());
  RunToHalt(0x42);
  Expect({{true, 0x10, true, {0x34}}, {true, 0x20, false, {0x42}}, {true, 0x11, true, {0x42}}});
}

TEST_F(KvmGuest, PeerPioOut) {
  Boot(MiniGuest()
           .MovEax(0x11223344)
           .OutAl(1)
           .OutAx(2)
           .MovEdx(0x1003)
           .OutDxAl()
           .OutDxAx()
           .OutEax(4)
           .Halt());
  RunToHalt();
  Expect({{true, 1, true, {0x44}},
          {true, 2, true, {0x44, 0x33}},
          {true, 0x1003, true, {0x44}},
          {true, 0x1003, true, {0x44, 0x33}},
          {true, 4, true, {0x44, 0x33, 0x22, 0x11}}});
}

TEST_F(KvmGuest, PeerPioIn) {
  Boot(MiniGuest()
           .MovEdx(0x1003)
           .InAl(1)
           .StoreAl(0x3000)
           .InAx(2)
           .StoreAx(0x3002)
           .InDxAl()
           .StoreAl(0x3004)
           .InDxAx()
           .StoreAx(0x3006)
           .Halt());
  RunToHalt(0xBBAA);
  EXPECT_EQ(accesses_.size(), 4u);
  EXPECT_EQ(ByteAt(0x3000), 0xAA);
  EXPECT_EQ(ByteAt(0x3003), 0xBB);
  EXPECT_EQ(ByteAt(0x3004), 0xAA);
  EXPECT_EQ(ByteAt(0x3007), 0xBB);
}

TEST_F(KvmGuest, PeerIoRepString) {
  const uint8_t out[] = {'h', 'e', 'l', 'l', 'o'};
  ASSERT_OK(vm_->memory().Write(0x3000, out));
  Boot(MiniGuest()
           .MovEdx(0x80)
           .MovEcx(5)
           .MovEdi(0x4000)
           .RepInsb()
           .MovEcx(5)
           .MovEsi(0x3000)
           .RepOutsb()
           .Halt());
  RunToHalt(0x5A);
  std::vector<uint8_t> read, written;
  for (const Access& a : accesses_)
    (a.write ? written : read)
        .insert((a.write ? written : read).end(), a.data.begin(), a.data.end());
  EXPECT_THAT(read, ElementsAre(0x5A, 0x5A, 0x5A, 0x5A, 0x5A));
  EXPECT_THAT(written, ElementsAre('h', 'e', 'l', 'l', 'o'));
  EXPECT_EQ(ByteAt(0x4004), 0x5A);
  EXPECT_EQ(ByteAt(0x4005), 0);
}

TEST_F(KvmGuest, PeerMmioAndPio) {
  Boot(MiniGuest()
           .LoadAl(kNowhere)
           .IncAl()
           .OutAl(0x80)
           .StoreAl(kNowhere + 5)
           .MovEax(0x77665544)
           .StoreEax(kNowhere + 8)
           .StoreAx(kNowhere + 2)
           .Halt());
  RunToHalt(0x32);
  Expect({{false, kNowhere, false, {0x32}},
          {true, 0x80, true, {0x33}},
          {false, kNowhere + 5, true, {0x33}},
          {false, kNowhere + 8, true, {0x44, 0x55, 0x66, 0x77}},
          {false, kNowhere + 2, true, {0x44, 0x55}}});
}

TEST_F(KvmGuest, PeerMmioCrossPage) {
  Boot(MiniGuest().MovEax(0x44332211).StoreEax(kRam - 2).Halt());
  RunToHalt();
  EXPECT_EQ(ByteAt(kRam - 2), 0x11);
  EXPECT_EQ(ByteAt(kRam - 1), 0x22);
  Expect({{false, kRam, true, {0x33, 0x44}}});
}

TEST_F(KvmGuest, PeerReadOnlyMemory) {
  if (!hypervisor_->capabilities().read_only_memory)
    GTEST_SKIP() << "SKIPPED: no read-only memory here";
  AddPage(0x66, /*read_only=*/true);
  Boot(MiniGuest().LoadAl(kExtra).IncAl().StoreAl(kExtra).Halt());
  RunToHalt();
  Expect({{false, kExtra, true, {0x67}}});
  EXPECT_EQ(page_[0], 0x66);
}

TEST_F(KvmGuest, PeerRemoveMemory) {
  const MemorySlot slot = AddPage(0x55);
  Boot(MiniGuest().LoadAl(kExtra).OutAl(1).LoadAl(kExtra).OutAl(2).Halt());
  Step();
  Expect({{true, 1, true, {0x55}}});
  ASSERT_OK(vm_->RemoveMemoryRegion(slot));
  RunToHalt(0x44);
  Expect({{true, 1, true, {0x55}}, {false, kExtra, false, {0x44}}, {true, 2, true, {0x44}}});
}

// The region goes while an exit is being handled and its bytes live on: never stale data.
TEST_F(KvmGuest, PeerSlatOnRegionRemovalIsMmio) {
  const MemorySlot slot = AddPage(0x55);
  Boot(MiniGuest().LoadAl(kExtra).OutAl(1).LoadAl(kExtra).OutAl(1).JumpBack(14).Halt());
  for (int i = 0; i < 4; ++i) Step();
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<MemoryRegion> kept, vm_->RemoveMemoryRegion(slot));
  accesses_.clear();
  Step(0x21);
  Expect({{false, kExtra, false, {0x21}}});
  EXPECT_EQ(kept->data()[0], 0x55);
}

TEST_F(KvmGuest, InitialMemoryCanBeRemoved) {
  ASSERT_OK_AND_ASSIGN(auto memory, GuestMemory::Create({{0, kRam}, {kExtra, kPage}}));
  ASSERT_OK_AND_ASSIGN(vm_, hypervisor_->CreateVm(std::move(memory)));
  Boot(MiniGuest().StoreAl(kExtra).Halt());
  ASSERT_OK(vm_->RemoveMemoryRegion(1));
  RunToHalt();
  Expect({{false, kExtra, true, {0}}});
}

TEST_F(KvmGuest, PeerDirtyLog) {
  const MemorySlot slot = AddPage(0, false, /*log_dirty=*/true);
  Boot(MiniGuest().MovAl(0x12).StoreAl(kExtra + 9).Halt().StoreAl(kExtra + 9).Halt());
  RunToHalt();
  EXPECT_EQ(page_[9], 0x12);
  EXPECT_THAT(DirtyPages(slot, kPage), ElementsAre(0));
  EXPECT_THAT(DirtyPages(slot, kPage), IsEmpty()) << "reading clears";
  RunToHalt();
  EXPECT_THAT(DirtyPages(slot, kPage), ElementsAre(0)) << "and the next write counts again";
}

TEST_F(KvmGuest, DirtyLogOfInitialMemoryOnALiveSlot) {
  MiniGuest guest;
  for (int round = 0; round < 3; ++round)
    guest.StoreAl(0x5000).StoreAl(0x9000).StoreAl(kRam - 1).Halt();
  Boot(guest);
  RunToHalt();
  ASSERT_OK(vm_->SetDirtyLogging(0, true));
  DirtyPages(0, kRam);
  RunToHalt();
  EXPECT_THAT(DirtyPages(0, kRam), ElementsAre(5, 9, 255));
  ASSERT_OK(vm_->SetDirtyLogging(0, false));
  RunToHalt();
  ASSERT_OK(vm_->SetDirtyLogging(0, true));
  EXPECT_THAT(DirtyPages(0, kRam), IsEmpty());
}

TEST_F(KvmGuest, ArenaMappingsReachTheGuest) {
  std::unique_ptr<MemoryRegion> arena = MemoryArena::Create(kPage).value();
  ASSERT_OK_AND_ASSIGN(const MemorySlot slot, vm_->AddMemoryRegion(kExtra, std::move(arena), false,
                                                                   false, CacheType::kCoherent));
  const Fd file = MakeMemFd("arena", kPage).value();
  ASSERT_OK(WriteAll(file.get(), "K"));
  Boot(MiniGuest().LoadAl(kExtra).OutAl(1).LoadAl(kExtra).OutAl(1).LoadAl(kExtra).OutAl(1).Halt());
  Step();
  ASSERT_OK(vm_->AddFdMapping(slot, 0, kPage, file, 0, Protection::kReadWrite));
  Step();
  ASSERT_OK(vm_->RemoveMapping(slot, 0, kPage));
  Step();
  Expect({{true, 1, true, {0}}, {true, 1, true, {'K'}}, {true, 1, true, {0}}});
}

TEST_F(KvmGuest, BalloonedMemoryReadsAsZeros) {
  const uint8_t byte = 7;
  ASSERT_OK(vm_->memory().Write(0x9000, {&byte, 1}));
  Boot(MiniGuest().LoadAl(0x9000).OutAl(1).LoadAl(0x9000).OutAl(1).Halt());
  Step();
  ASSERT_OK(vm_->HandleBalloonEvent(BalloonInflate{0x9000, kPage}));
  Step();
  Expect({{true, 1, true, {7}}, {true, 1, true, {0}}});
}

class KvmIoevent : public KvmGuest {
 protected:
  // How often it was signalled since the last call.
  static uint64_t Count(const Fd& event) {
    uint64_t count = 0;
    return read(event.get(), &count, sizeof(count)) == sizeof(count) ? count : 0;
  }
};

TEST_F(KvmIoevent, MatchesWidthAndValue) {
  const IoAddress at = {IoAddress::Space::kMmio, kNowhere};
  const Fd two = MakeEventFd().value(), value = MakeEventFd().value();
  ASSERT_OK(vm_->RegisterIoevent(two, at, {.width = 2}));
  ASSERT_OK(vm_->RegisterIoevent(value, at, {.width = 4, .value = 7}));
  Boot(MiniGuest()
           .MovEax(7)
           .StoreAl(kNowhere)
           .StoreAx(kNowhere)
           .StoreEax(kNowhere)
           .MovEax(8)
           .StoreEax(kNowhere)
           .LoadEax(kNowhere)
           .Halt());
  RunToHalt();
  EXPECT_EQ(Count(two), 1u);
  EXPECT_EQ(Count(value), 1u);
  Expect({{false, kNowhere, true, {7}},
          {false, kNowhere, true, {8, 0, 0, 0}},
          {false, kNowhere, false, {0, 0, 0, 0}}});
}

TEST_F(KvmIoevent, AnyLengthMatchesAllAndUnregisterEndsIt) {
  const Fd port = MakeEventFd().value(), mmio = MakeEventFd().value();
  const IoAddress at_port = {IoAddress::Space::kPort, 0x70};
  ASSERT_OK(vm_->RegisterIoevent(port, at_port, {}));
  ASSERT_OK(vm_->RegisterIoevent(mmio, {IoAddress::Space::kMmio, kNowhere}, {}));
  MiniGuest guest;
  for (int i = 0; i < 2; ++i)
    guest.OutAl(0x70).OutAx(0x70).OutEax(0x70).StoreAl(kNowhere).StoreEax(kNowhere).Halt();
  Boot(guest);
  RunToHalt();
  EXPECT_THAT(accesses_, IsEmpty());
  EXPECT_EQ(Count(port), 3u);
  EXPECT_EQ(Count(mmio), 2u);
  ASSERT_OK(vm_->UnregisterIoevent(port, at_port, {}));
  RunToHalt();
  EXPECT_EQ(accesses_.size(), 3u);
  EXPECT_EQ(Count(port), 0u);
  EXPECT_EQ(Count(mmio), 2u);
}

TEST_F(KvmGuest, TripleFaultIsShutdown) {
  Boot(MiniGuest().Undefined());
  EXPECT_TRUE(std::holds_alternative<ShutdownExit>(Step()));
}

TEST_F(KvmGuest, CodeInNoMemoryIsAnEmulationFailure) {
  Boot(MiniGuest().MovEax(kNowhere).Bytes({0xFF, 0xE0}));  // jmp *%eax
  const VcpuExit exit = Step();
  ASSERT_TRUE(std::holds_alternative<InternalErrorExit>(exit)) << exit.index();
  EXPECT_TRUE(std::get<InternalErrorExit>(exit).emulation);
  EXPECT_THAT(vcpu_->DumpRegisters(), HasSubstr("rip=00000000d0000000"));
}

// Only a software KVM meets instructions that it cannot emulate here.
TEST_F(KvmGuest, EmulationFailureTellsTheInstruction) {
  Boot(MiniGuest().Bytes({0xF3, 0x0F, 0xB8, 0xC0}).Halt());  // popcnt %eax, %eax
  const VcpuExit exit = Step();
  if (std::holds_alternative<HaltExit>(exit)) GTEST_SKIP() << "SKIPPED: this KVM runs popcnt";
  ASSERT_TRUE(std::holds_alternative<InternalErrorExit>(exit)) << exit.index();
  const std::vector<uint8_t>& bytes = std::get<InternalErrorExit>(exit).instruction;
  ASSERT_GE(bytes.size(), 4u);
  EXPECT_EQ(std::vector(bytes.begin(), bytes.begin() + 4),
            (std::vector<uint8_t>{0xF3, 0x0F, 0xB8, 0xC0}));
}

TEST_F(KvmGuest, CompleteExitTakesTheAnswerAndRunsNothing) {
  Boot(MiniGuest().InAl(0x20).MovAl(0).Halt());
  Step(0x42);
  ASSERT_OK(vcpu_->CompleteExit());
  EXPECT_THAT(vcpu_->DumpRegisters(), HasSubstr("rax=0000000000000042"));
  EXPECT_THAT(vcpu_->DumpRegisters(), HasSubstr("rip=0000000000001002"));
  ASSERT_OK(vcpu_->CompleteExit()) << "again is fine";
  RunToHalt();
}

TEST_F(KvmGuest, KickAfterAnExitCompletesItFirst) {
  Boot(MiniGuest().InAl(0x20).OutAl(0x21).Halt());
  Step(0x42);
  vcpu_->Kick();
  EXPECT_TRUE(std::holds_alternative<InterruptedExit>(Step()));
  EXPECT_THAT(vcpu_->DumpRegisters(), HasSubstr("rax=0000000000000042"));
  Step();
  EXPECT_EQ(accesses_.back(), (Access{true, 0x21, true, {0x42}}));
}

TEST_F(KvmGuest, TenThousandKicksOfASpinningGuest) {
  constexpr int kKicks = 10'000;
  Boot(MiniGuest().Spin());
  std::atomic<int> returned{0};
  std::thread runner([&] {
    for (int i = 0; i < kKicks; ++i) {
      const absl::StatusOr<VcpuExit> exit = vcpu_->Run();
      ASSERT_OK(exit);
      ASSERT_TRUE(std::holds_alternative<InterruptedExit>(*exit));
      ++returned;
    }
  });
  for (int i = 0; i < kKicks; ++i) {
    ASSERT_EQ(returned.load(), i);
    vcpu_->Kick();
    while (returned.load() == i) std::this_thread::yield();
  }
  runner.join();
}

// Kicks hit exits in all their stages; the guest's count must not suffer.
TEST_F(KvmGuest, KicksDoNotDisturbExits) {
  Boot(MiniGuest().MovEax(0).OutEax(0x10).Bytes({0x40}).JumpBack(3));  // inc %eax
  std::atomic<bool> done{false};
  std::thread kicker([&] {
    while (!done) {
      vcpu_->Kick();
      std::this_thread::yield();
    }
  });
  uint32_t next = 0;
  int interrupted = 0;
  while (next < 3000) {
    const VcpuExit exit = Step();
    if (std::holds_alternative<InterruptedExit>(exit)) {
      ++interrupted;
      continue;
    }
    ASSERT_TRUE(std::holds_alternative<PortExit>(exit));
    uint32_t value;
    memcpy(&value, std::get<PortExit>(exit).data.data(), sizeof(value));
    ASSERT_EQ(value, next++);
  }
  done = true;
  kicker.join();
  EXPECT_GT(interrupted, 0);
}

TEST_F(KvmGuest, PeerEnterLongModeDirect) {
  const uint64_t pml4 = 0x20003, pdpt = 0x30003, directory = 0x83;  // 2 MiB, identity
  ASSERT_OK(vm_->memory().Write(0x10000, {reinterpret_cast<const uint8_t*>(&pml4), 8}));
  ASSERT_OK(vm_->memory().Write(0x20000, {reinterpret_cast<const uint8_t*>(&pdpt), 8}));
  ASSERT_OK(vm_->memory().Write(0x30000, {reinterpret_cast<const uint8_t*>(&directory), 8}));
  // movabs $0x1122334455667788, %rax; shr $32, %rax; out %eax, $0x10; mov %esi, %eax; out; hlt
  Load(MiniGuest()
           .Bytes({0x48, 0xB8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11})
           .Bytes({0x48, 0xC1, 0xE8, 0x20})
           .OutEax(0x10)
           .Bytes({0x89, 0xF0})
           .OutEax(0x11)
           .Halt());
  ASSERT_OK_AND_ASSIGN(vcpu_, vm_->CreateVcpu(0, 1));
  ASSERT_OK(vcpu_->SetUpForBoot(
      {.rip = kCode, .rsp = 0x8000, .rsi = 0x7000, .long_mode = true, .cr3 = 0x10000}));
  RunToHalt();
  Expect({{true, 0x10, true, {0x44, 0x33, 0x22, 0x11}}, {true, 0x11, true, {0, 0x70, 0, 0}}});
}

TEST_F(KvmGuest, SetUpForBootResetsInPlace) {
  ASSERT_OK(vm_->CreateIrqchip({}));
  const MiniGuest guest = MiniGuest().MovEcx(77).MovAl(0x34).OutAl(0x10).InAl(0x12).Spin();
  Boot(guest);
  const std::string at_boot = vcpu_->DumpRegisters();
  for (int i = 0; i < 3; ++i) {
    accesses_.clear();
    Step();
    Step(0x42);  // its answer is still to be taken when the reset comes
    Expect({{true, 0x10, true, {0x34}}, {true, 0x12, false, {0x42}}});
    ASSERT_OK(vm_->ResetIrqchip());
    Boot(guest);
    EXPECT_EQ(vcpu_->DumpRegisters(), at_boot);
  }
}

TEST_F(KvmGuest, ResetAfterATripleFault) {
  Boot(MiniGuest().Undefined());
  EXPECT_TRUE(std::holds_alternative<ShutdownExit>(Step()));
  Boot(MiniGuest().MovAl(1).OutAl(2).Halt());
  RunToHalt();
  Expect({{true, 2, true, {1}}});
}

TEST_F(KvmGuest, PrewarmedVmIsAsGood) {
  ASSERT_OK(hypervisor_->Prewarm());
  ASSERT_OK(hypervisor_->Prewarm());
  ASSERT_OK_AND_ASSIGN(auto memory, GuestMemory::Create({{0, kRam}}));
  ASSERT_OK_AND_ASSIGN(vm_, hypervisor_->CreateVm(std::move(memory)));
  Boot(MiniGuest().OutAl(2).Halt());
  RunToHalt();
  EXPECT_EQ(accesses_.size(), 1u);
}

TEST_F(KvmGuest, SixteenVcpusBoot) {
  ASSERT_OK(vm_->CreateIrqchip({}));
  Load(MiniGuest().OutAl(2).Spin());
  std::vector<std::unique_ptr<Vcpu>> vcpus(16);
  for (uint32_t id = 0; id < vcpus.size(); ++id) {
    ASSERT_OK_AND_ASSIGN(vcpus[id], vm_->CreateVcpu(id, 16));
    ASSERT_OK(vcpus[id]->SetUpForBoot({.rip = kCode, .rsp = 0x8000}));
  }
  vcpu_ = std::move(vcpus[0]);
  Step();
  Expect({{true, 2, true, {0}}});
}

}  // namespace
}  // namespace drover
