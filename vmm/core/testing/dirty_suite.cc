#include "vmm/core/testing/dirty_suite.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <utility>

#include "vmm/base/status_matchers.h"
#include "vmm/core/memory_slots.h"
#include "vmm/core/vm_errors.h"

namespace drover {

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DirtySuite);

using absl::StatusCode;
using testing::AnyOf;
using testing::ElementsAre;
using testing::IsEmpty;

std::vector<DirtyFactory> WithAllKinds(const DirtyFactory& backend) {
  const std::pair<const char*, DirtySourceOptions> kinds[] = {
      {"Bitmap", {.kind = DirtyLogWish::kBitmap}},
      {"PlainBitmap", {.kind = DirtyLogWish::kBitmap, .manual_protect = false}},
      {"Ring", {.kind = DirtyLogWish::kRing}},
      {"SmallRing", {.kind = DirtyLogWish::kRing, .ring_bytes = 16384}},
  };
  std::vector<DirtyFactory> factories;
  for (const auto& [name, options] : kinds) {
    factories.push_back(backend);
    factories.back().name += name;
    factories.back().options = options;
  }
  return factories;
}

void DirtySuite::SetUp() {
  absl::StatusOr<std::unique_ptr<Hypervisor>> made = GetParam().make();
  if (absl::IsUnavailable(made.status())) GTEST_SKIP() << "SKIPPED: " << made.status();
  ASSERT_OK(made);
  hypervisor_ = *std::move(made);
  const DirtySourceOptions& options = GetParam().options;
  if (options.kind == DirtyLogWish::kRing && hypervisor_->capabilities().dirty_ring_bytes == 0)
    GTEST_SKIP() << "SKIPPED: this host has no dirty ring";
  ASSERT_OK_AND_ASSIGN(vm_, hypervisor_->CreateVm(GuestMemory::Create({kLow, kHigh}).value()));
  ASSERT_OK_AND_ASSIGN(log_, DirtyLog::Create({.vm = vm_.get(), .source = options}));
  for (uint32_t id = 0; id < GetParam().writers; ++id) {
    auto writer = GetParam().make_writer(*vm_, id, GetParam().writers);
    ASSERT_OK(writer);
    guests_.push_back(*std::move(writer));
  }
}

DirtySuite::Pages DirtySuite::PagesOf(const PageSet& set) {
  Pages pages;
  for (const GuestRange& range : set.Ranges()) pages.merge(PagesOf(range));
  return pages;
}

DirtySuite::Pages DirtySuite::PagesOf(const GuestRange& range) {
  Pages pages;
  for (uint64_t at = std::max(range.start, kFirst); at < range.end(); at += kPage) pages.insert(at);
  return pages;
}

DirtySuite::Pages DirtySuite::Harvest(DirtyClear clear) {
  PageSet set;
  EXPECT_OK(log().Harvest(&set, clear));
  return PagesOf(set);
}

DirtySuite::Pages DirtySuite::HarvestSlot(MemorySlot slot) {
  PageSet set;
  EXPECT_OK(log().HarvestSlot(slot, &set));
  return PagesOf(set);
}

void DirtySuite::GuestWrites(const std::vector<uint64_t>& addresses, uint32_t value) {
  ASSERT_OK(guest().Write(addresses, value, &log()));
}

void DirtySuite::VmmWrites(uint64_t address, size_t size) {
  ASSERT_OK(memory().Write(address, std::vector<uint8_t>(size, 7)));
}

MemorySlot DirtySuite::AddRegion(uint64_t address, uint64_t pages) {
  const absl::StatusOr<MemorySlot> slot = vm().AddMemoryRegion(
      address, PlainRegion::Anonymous(pages * kPage).value(), false, false, CacheType::kCoherent);
  EXPECT_OK(slot);
  return slot.value_or(0);
}

TEST_P(DirtySuite, UsesWhatWasAskedFor) {
  const DirtyLogChoice& choice = log().choice();
  EXPECT_EQ(choice.reason, DirtyLogReason::kAsked) << choice;
  EXPECT_EQ(ring(), GetParam().options.kind == DirtyLogWish::kRing);
  EXPECT_EQ(choice.ring_pages != 0, ring());
  EXPECT_TRUE(GetParam().options.manual_protect || !manual());
}

TEST_P(DirtySuite, MergesGuestVmmAndDevices) {
  ASSERT_OK(log().Start());
  EXPECT_THAT(Harvest(), IsEmpty());
  GuestWrites({kFirst, kFirst + 4092, kFirst + 5 * kPage, kHigh.end() - 4});
  VmmWrites(kFirst + 9 * kPage + 100, kPage);
  ASSERT_OK_AND_ASSIGN(const auto host, memory().HostRange(kHigh.start, 2 * kPage));
  host[0] = 1;
  memory().MarkDirty(kHigh.start, 1);
  EXPECT_OK(log().MarkDirty(kHigh.start + kPage + 8, 8));
  EXPECT_THAT(Harvest(),
              ElementsAre(kFirst, kFirst + 5 * kPage, kFirst + 9 * kPage, kFirst + 10 * kPage,
                          kHigh.start, kHigh.start + kPage, kHigh.end() - kPage));
  EXPECT_THAT(Harvest(), IsEmpty());
  GuestWrites({kFirst});
  EXPECT_THAT(Harvest(), ElementsAre(kFirst)) << "watched again";
}

TEST_P(DirtySuite, HarvestAddsToTheSet) {
  ASSERT_OK(log().Start());
  PageSet set;
  GuestWrites({kFirst});
  ASSERT_OK(log().Harvest(&set));
  VmmWrites(kHigh.start, 1);
  ASSERT_OK(log().Harvest(&set));
  EXPECT_THAT(PagesOf(set), ElementsAre(kFirst, kHigh.start));
}

TEST_P(DirtySuite, MemoryGivenBackIsWritten) {
  ASSERT_OK(log().Start());
  const MemorySlot slot = AddRegion(kExtra, 4);
  Harvest();
  ASSERT_OK(memory().Discard(kFirst, kPage));
  ASSERT_OK(vm().MadviseRemoveMemoryRegion(0, kFirst + 2 * kPage, kPage));
  ASSERT_OK(vm().MadviseRemoveMemoryRegion(slot, kPage, kPage));
  EXPECT_THAT(Harvest(), ElementsAre(kFirst, kFirst + 2 * kPage, kExtra + kPage));
}

TEST_P(DirtySuite, OneLogDecidesWhatIsLogged) {
  EXPECT_THAT(DirtyLog::Create({.vm = &vm()}), StatusIs(StatusCode::kAlreadyExists));
  std::vector<uint8_t> bitmap(DirtyLogBytes(kLow.size));
  EXPECT_THAT(vm().SetDirtyLogging(0, true), StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_THAT(vm().GetDirtyLog(0, bitmap), StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_THAT(vm().AddMemoryRegion(kExtra, PlainRegion::Anonymous(kPage).value(), false, true,
                                   CacheType::kCoherent),
              StatusIs(StatusCode::kFailedPrecondition));
}

TEST_P(DirtySuite, SaysWhatItCannotDo) {
  PageSet set;
  EXPECT_THAT(log().Harvest(&set), StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_THAT(log().HarvestSlot(0, &set), StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_THAT(log().StopSlot(0), StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_THAT(log().StartSlot(7), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(log().StopSlot(7), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(log().HarvestSlot(7, &set), StatusIs(StatusCode::kNotFound));
  EXPECT_OK(log().Stop()) << "nothing to stop";
  ASSERT_OK(log().Start());
  EXPECT_THAT(log().Start(), StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_THAT(log().StartSlot(0), StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_THAT(log().MarkDirty(kLow.end(), 1), StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(log().MarkDirty(~uint64_t{0}, 2), StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(log().MarkDirty(kLow.end() - 1, 2), StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(Harvest(), ElementsAre(kLow.end() - kPage)) << "what is memory was noted";
  EXPECT_THAT(log().Rearm(set, 0, 0, 64), StatusIs(StatusCode::kNotFound)) << "not in the set";
  ASSERT_OK(log().Harvest(&set));
  EXPECT_THAT(log().Rearm(set, 0, 1, 1), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(log().Rearm(set, 0, 0, 513), StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(log().Rearm(set, 0, ~uint64_t{63}, 64), StatusIs(StatusCode::kOutOfRange));
  EXPECT_THAT(log().Rearm(set, 9, 0, 1), StatusIs(StatusCode::kNotFound));
  EXPECT_OK(log().Rearm(set, 0, 512, 0));
}

TEST_P(DirtySuite, StopForgets) {
  ASSERT_OK(log().Start());
  GuestWrites({kFirst});
  VmmWrites(kFirst + kPage, 1);
  ASSERT_OK(log().Stop());
  GuestWrites({kFirst + 2 * kPage});
  VmmWrites(kFirst + 3 * kPage, 1);
  ASSERT_OK(log().Start());
  EXPECT_THAT(Harvest(), IsEmpty());
  GuestWrites({kFirst, kFirst + 2 * kPage});
  EXPECT_THAT(Harvest(), ElementsAre(kFirst, kFirst + 2 * kPage));
}

TEST_P(DirtySuite, StartOfAllGivesAllOnce) {
  const MemorySlot slot = AddRegion(kExtra, 70);
  ASSERT_OK(log().Start(DirtyStart::kAll));
  Pages all = PagesOf(kLow);
  all.merge(PagesOf(kHigh));
  all.merge(PagesOf({kExtra, 70 * kPage}));
  EXPECT_EQ(Harvest(), all);
  EXPECT_THAT(Harvest(), IsEmpty());
  GuestWrites({kFirst, kExtra + 69 * kPage});
  EXPECT_THAT(Harvest(), ElementsAre(kFirst, kExtra + 69 * kPage));
  ASSERT_OK(log().StopSlot(slot));
  ASSERT_OK(log().StartSlot(slot, DirtyStart::kAll));
  EXPECT_EQ(HarvestSlot(slot), PagesOf({kExtra, 70 * kPage}));
  EXPECT_THAT(Harvest(), IsEmpty());
}

TEST_P(DirtySuite, SlotsByThemselves) {
  ASSERT_OK(log().StartSlot(1));
  GuestWrites({kFirst, kHigh.start});
  VmmWrites(kFirst, 1);
  VmmWrites(kHigh.start + kPage, 1);
  EXPECT_THAT(Harvest(), ElementsAre(kHigh.start, kHigh.start + kPage)) << "slot 0 does not log";
  ASSERT_OK(log().StartSlot(0));
  EXPECT_THAT(Harvest(), IsEmpty());
  GuestWrites({kFirst, kHigh.start});
  VmmWrites(kFirst + kPage, 1);
  EXPECT_THAT(HarvestSlot(0), ElementsAre(kFirst, kFirst + kPage));
  EXPECT_THAT(HarvestSlot(0), IsEmpty());
  EXPECT_THAT(Harvest(), ElementsAre(kHigh.start)) << "kept while the other was harvested";
  ASSERT_OK(log().StopSlot(1));
  GuestWrites({kFirst, kHigh.start});
  EXPECT_THAT(Harvest(), ElementsAre(kFirst));
  GuestWrites({kFirst + kPage});
  ASSERT_OK(log().Start()) << "the rest";
  GuestWrites({kHigh.start});
  EXPECT_THAT(Harvest(), ElementsAre(kFirst + kPage, kHigh.start));
}

TEST_P(DirtySuite, RegionsComeAndGo) {
  ASSERT_OK(log().Start());
  MemorySlot slot = AddRegion(kExtra, 3);
  GuestWrites({kExtra});
  EXPECT_EQ(Harvest(), PagesOf({kExtra, 3 * kPage})) << "all that is new";
  EXPECT_THAT(Harvest(), IsEmpty());
  GuestWrites({kExtra + kPage});
  EXPECT_OK(log().MarkDirty(kExtra + 2 * kPage, 4));
  EXPECT_THAT(Harvest(), ElementsAre(kExtra + kPage, kExtra + 2 * kPage));
  GuestWrites({kExtra + kPage});
  ASSERT_OK(vm().RemoveMemoryRegion(slot));
  EXPECT_THAT(Harvest(), IsEmpty());
  slot = AddRegion(kExtra + 8 * kPage, 200);
  EXPECT_EQ(Harvest(), PagesOf({kExtra + 8 * kPage, 200 * kPage})) << "another region in its slot";
  ASSERT_OK(vm().RemoveMemoryRegion(slot));
  AddRegion(kExtra, 1);
  EXPECT_EQ(Harvest(), PagesOf({kExtra, kPage}));
  GuestWrites({kExtra});
  EXPECT_EQ(Harvest(), PagesOf({kExtra, kPage}));
}

TEST_P(DirtySuite, InitialMemoryMayGoAndComeBackElsewhere) {
  ASSERT_OK(log().Start());
  ASSERT_OK_AND_ASSIGN(auto high, vm().RemoveMemoryRegion(1));
  ASSERT_OK(vm().AddMemoryRegion(kExtra, std::move(high), false, false, CacheType::kCoherent));
  EXPECT_EQ(Harvest(), PagesOf({kExtra, kHigh.size}));
  VmmWrites(kHigh.start + kPage, 1);  // by the address that GuestMemory knows
  EXPECT_OK(log().MarkDirty(kExtra + 2 * kPage, 1));
  EXPECT_THAT(Harvest(), ElementsAre(kExtra + kPage, kExtra + 2 * kPage));
}

TEST_P(DirtySuite, PagesClearedLaterComeUntilRearmed) {
  ASSERT_OK(log().Start());
  GuestWrites({kFirst, kFirst + 130 * kPage, kHigh.start + 256 * kPage});
  PageSet set;
  ASSERT_OK(log().Harvest(&set, DirtyClear::kLater));
  const Pages all = PagesOf(set);
  EXPECT_THAT(all, ElementsAre(kFirst, kFirst + 130 * kPage, kHigh.start + 256 * kPage));
  EXPECT_EQ(Harvest(DirtyClear::kLater), manual() ? all : Pages{});
  GuestWrites({kFirst + kPage});  // after the harvest: not in the set, so not rearmed
  ASSERT_OK(log().Rearm(set, 0, 0, 192));
  ASSERT_OK(log().Rearm(set, 1, 256, 1));
  GuestWrites({kHigh.start + 256 * kPage});
  const Pages rest = manual() ? Pages{kFirst + kPage, kFirst + 130 * kPage} : Pages{kFirst + kPage};
  Pages expected = rest;
  expected.insert(kHigh.start + 256 * kPage);
  EXPECT_EQ(Harvest(), expected);
  EXPECT_THAT(Harvest(), IsEmpty());
}

TEST_P(DirtySuite, NothingIsLostWhenARingIsFull) {
  ASSERT_OK(log().Start());
  std::vector<uint64_t> addresses;
  Pages expected;
  for (uint64_t at = kFirst; at < kLow.end(); at += kPage) addresses.push_back(at);
  for (uint64_t at = kHigh.start; at < kHigh.end(); at += kPage) addresses.push_back(at);
  expected.insert(addresses.begin(), addresses.end());
  AddRegion(kExtra, 1024);
  Harvest();
  std::vector<uint64_t> more;
  for (uint64_t i = 0; i < 1024; ++i) more.push_back(kExtra + i * kPage);
  expected.insert(more.begin(), more.end());
  GuestWrites(addresses);
  GuestWrites(more);
  EXPECT_EQ(guest().full_exits() > 0, log().choice().ring_pages == 1024);
  EXPECT_EQ(Harvest(), expected);
  EXPECT_OK(log().HandleRingFull()) << "nothing to do";
  GuestWrites(addresses);
  ASSERT_OK(log().Stop());
  GuestWrites(more);
}

}  // namespace drover
