// What a dirty log costs: starting, harvesting and clearing 1 GiB over the bare ioctls, merging,
// and what a guest that writes loses.
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "e2e/bench/figure.h"
#include "vmm/base/fd.h"
#include "vmm/core/dirty_log.h"
#include "vmm/core/page_set.h"
#include "vmm/kvm/kvm_hypervisor.h"
#include "vmm/kvm/testing/kvm_for_test.h"
#include "vmm/kvm/testing/writer_guest.h"

namespace drover {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = 262'144;      // 1 GiB
constexpr uint64_t kRam = 256 * kPage;    // where the guest's code is
constexpr uint64_t kBase = 4 << 20;       // of what is logged; below the guest's 1 GiB
constexpr uint64_t kGuestPages = 32'768;  // that the guest writes: 128 MiB
constexpr int kSamples = 15;

[[noreturn]] void Die(const std::string& why) {
  fprintf(stderr, "dirty_log_bench: %s\n", why.c_str());
  exit(1);
}

void Must(const absl::Status& status) {
  if (!status.ok()) Die(status.ToString());
}

template <typename T>
T Must(absl::StatusOr<T> value) {
  Must(value.status());
  return *std::move(value);
}

void Must(int result, const char* what) {
  if (result < 0) Die(std::string(what) + " failed");
}

// This thread's own time, guest code included: what others run on a busy host does not count.
double CpuMicros() {
  struct timespec now = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

double MicrosOf(const std::function<void()>& work) {
  const double begin = CpuMicros();
  work();
  return CpuMicros() - begin;
}

// A VM of bare ioctls with 1 GiB and no vCPU.
class BareVm {
 public:
  BareVm()
      : kvm_(Must(OpenFile("/dev/kvm", O_RDWR))),
        vm_(ioctl(kvm_.get(), KVM_CREATE_VM, 0)),
        memory_(Must(GuestMemory::Create({{0, kPages * kPage}}))),
        words_(kPages / 64) {
    struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {1}};
    Must(ioctl(vm_.get(), KVM_ENABLE_CAP, &cap), "KVM_ENABLE_CAP");
    SetLogging(false);
  }

  void SetInitiallySet(bool on) {
    struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {on ? 3u : 1u}};
    Must(ioctl(vm_.get(), KVM_ENABLE_CAP, &cap), "KVM_ENABLE_CAP");
  }
  void SetLogging(bool on) {
    struct kvm_userspace_memory_region region = {
        .flags = on ? uint32_t{KVM_MEM_LOG_DIRTY_PAGES} : 0,
        .memory_size = kPages * kPage,
        .userspace_addr = reinterpret_cast<uintptr_t>(memory_->regions()[0].host)};
    Must(ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
  }
  void Get() {
    struct kvm_dirty_log log = {};
    log.dirty_bitmap = words_.data();
    Must(ioctl(vm_.get(), KVM_GET_DIRTY_LOG, &log), "KVM_GET_DIRTY_LOG");
  }
  void Clear() {
    struct kvm_clear_dirty_log log = {.num_pages = kPages};
    log.dirty_bitmap = words_.data();
    Must(ioctl(vm_.get(), KVM_CLEAR_DIRTY_LOG, &log), "KVM_CLEAR_DIRTY_LOG");
  }
  // Clear leaves every `nth` page as it is.
  void DropEach(uint64_t nth) {
    for (uint64_t page = 0; page < kPages; page += nth)
      words_[page / 64] &= ~(uint64_t{1} << page % 64);
  }

 private:
  const Fd kvm_, vm_;
  const std::unique_ptr<GuestMemory> memory_;
  PageWords words_;
};

double Median(std::vector<double> samples) { return Quantile(std::move(samples), 0.5); }

void PrintRatio(const std::string& name, const std::vector<double>& ours,
                const std::vector<double>& bare, const std::string& baseline) {
  Print({.name = "dirty_log/" + name,
         .value = Median(ours),
         .unit = "us",
         .baseline = Median(bare),
         .baseline_name = baseline,
         .goal = 1.2,
         .goal_is_ratio = true,
         .samples = ours});
}

// 1 GiB of KVM's bitmap is made dirty by a log that begins with all pages set, and the rest is
// cleared: no guest is needed, and both sides have the same.
class OneGib {
 public:
  explicit OneGib(KvmHypervisor& kvm)
      : vm_(Must(kvm.CreateVm(Must(GuestMemory::Create({{0, kPages * kPage}}))))),
        log_(Must(DirtyLog::Create({.vm = vm_.get()}))) {}

  void Run() {
    Starts();
    Harvests("idle", 0);
    Harvests("one_percent", 100);
    Harvests("all", 1);
    Clears();
  }

 private:
  void Starts() {
    for (const DirtyStart start : {DirtyStart::kClean, DirtyStart::kAll}) {
      std::vector<double> ours, bare;
      const bool all = start == DirtyStart::kAll;
      bare_.SetInitiallySet(all);
      for (int i = 0; i < kSamples; ++i) {
        bare.push_back(MicrosOf([&] { bare_.SetLogging(true); }));
        bare_.SetLogging(false);
        ours.push_back(MicrosOf([&] { Must(log_->Start(start)); }));
        Must(log_->Stop());
      }
      PrintRatio(all ? "start_all/1GiB" : "start_clean/1GiB", ours, bare,
                 "KVM_SET_USER_MEMORY_REGION");
    }
  }

  // With each `nth` page dirty; 0: none.
  void Prepare(uint64_t nth) {
    bare_.SetInitiallySet(true);
    bare_.SetLogging(true);
    Must(log_->Start(DirtyStart::kAll));
    if (nth == 1) return;
    bare_.Get();
    if (nth != 0) bare_.DropEach(nth);
    bare_.Clear();
    PageSet all;
    Must(log_->Harvest(&all, DirtyClear::kLater));
    const std::span<uint64_t> words = all.WordsOf(0, {0, kPages * kPage});
    for (uint64_t page = 0; nth != 0 && page < kPages; page += nth)
      words[page / 64] &= ~(uint64_t{1} << page % 64);
    Must(log_->Rearm(all, 0, 0, kPages));
  }

  void Harvests(const std::string& name, uint64_t nth) {
    std::vector<double> ours, bare;
    PageSet pages;
    pages.WordsOf(0, {0, kPages * kPage});
    for (int i = 0; i < kSamples; ++i) {
      Prepare(nth);
      pages.Clear();
      bare.push_back(MicrosOf([&] {
        bare_.Get();
        if (nth != 0) bare_.Clear();
      }));
      ours.push_back(MicrosOf([&] { Must(log_->Harvest(&pages)); }));
      const uint64_t expected = nth == 0 ? 0 : (kPages + nth - 1) / nth;
      if (pages.Count() != expected) Die(absl::StrCat("harvest of ", pages.Count(), " pages"));
      End();
    }
    PrintRatio("harvest_" + name + "/1GiB", ours, bare,
               nth == 0 ? "KVM_GET_DIRTY_LOG" : "KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG");
  }

  void Clears() {
    std::vector<double> ours, bare;
    for (int i = 0; i < kSamples; ++i) {
      Prepare(1);
      PageSet pages;
      bare_.Get();
      Must(log_->Harvest(&pages, DirtyClear::kLater));
      bare.push_back(MicrosOf([&] { bare_.Clear(); }));
      ours.push_back(MicrosOf([&] { Must(log_->Rearm(pages, 0, 0, kPages)); }));
      End();
    }
    PrintRatio("clear_all/1GiB", ours, bare, "KVM_CLEAR_DIRTY_LOG");
  }

  void End() {
    bare_.SetLogging(false);
    Must(log_->Stop());
  }

  BareVm bare_;
  const std::unique_ptr<Vm> vm_;
  const std::unique_ptr<DirtyLog> log_;
};

void Merges() {
  constexpr uint64_t kGib = 64;
  PageSet into, from;
  for (PageSet* set : {&into, &from}) {
    const auto words = set->WordsOf(0, {0, kGib << 30});
    for (size_t i = 0; i < words.size(); ++i) words[i] = i * 0x9E3779B97F4A7C15;
  }
  std::vector<double> merge, count;
  uint64_t pages = 0;
  for (int i = 0; i < 100; ++i) {
    merge.push_back(kGib / (MicrosOf([&] { into.Merge(from); }) / 1e6));
    count.push_back(kGib / (MicrosOf([&] { pages += into.Count(); }) / 1e6));
  }
  if (pages == 0) Die("nothing to count");
  Print({.name = "dirty_log/merge", .value = Median(merge), .unit = "GiB/s", .samples = merge});
  Print({.name = "dirty_log/count", .value = Median(count), .unit = "GiB/s", .samples = count});
}

// Microseconds in which a guest writes kGuestPages pages once, with a harvest before each pass.
std::vector<double> GuestPasses(KvmHypervisor& kvm, std::optional<DirtyLogWish> kind) {
  const auto vm =
      Must(kvm.CreateVm(Must(GuestMemory::Create({{0, kRam}, {kBase, kGuestPages * kPage}}))));
  const auto log = Must(
      DirtyLog::Create({.vm = vm.get(), .source = {.kind = kind.value_or(DirtyLogWish::kBitmap)}}));
  const auto guest = Must(WriterGuest::Create(*vm));
  const auto pass = [&] {
    std::vector<uint64_t> addresses(GuestWriter::kBatch);
    for (uint64_t at = 0; at < kGuestPages; at += addresses.size()) {
      for (size_t i = 0; i < addresses.size(); ++i) addresses[i] = kBase + (at + i) * kPage;
      Must(guest->Write(addresses, 1, log.get()));
    }
  };
  pass();
  if (kind) Must(log->Start());
  std::vector<double> micros;
  for (int i = 0; i < kSamples; ++i) {
    PageSet pages;
    if (kind) Must(log->Harvest(&pages));
    micros.push_back(MicrosOf(pass));
  }
  return micros;
}

void WritingGuest(KvmHypervisor& kvm) {
  const double off = Median(GuestPasses(kvm, std::nullopt));
  const std::pair<const char*, DirtyLogWish> kinds[] = {{"bitmap", DirtyLogWish::kBitmap},
                                                        {"ring", DirtyLogWish::kRing}};
  for (const auto& [name, kind] : kinds) {
    const std::vector<double> on = GuestPasses(kvm, kind);
    Print({.name = absl::StrCat("dirty_log/writing_guest/", name),
           .value = Median(on),
           .unit = "us",
           .baseline = off,
           .baseline_name = "the same guest without a log",
           .samples = on});
  }
}

void Run() {
  const auto kvm = Must(OpenKvmForTest());
  OneGib(*kvm).Run();
  Merges();
  WritingGuest(*kvm);
}

}  // namespace
}  // namespace drover

int main() {
  drover::Run();
  return 0;
}
