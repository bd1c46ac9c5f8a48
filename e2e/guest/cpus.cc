#include "e2e/guest/cpus.h"

#include "e2e/guest/acpi.h"
#include "e2e/guest/clock.h"
#include "e2e/guest/console.h"
#include "e2e/guest/interrupts.h"
#include "e2e/guest/nested.h"
#include "e2e/guest/selectors.h"

extern "C" {
extern char trampoline[], trampoline_end[];
extern uint64_t boot_gdt[], gdt[];
extern uint32_t next_cpu;
[[noreturn]] void secondary_main(uint32_t index);
}

namespace guest {
namespace {

// A vCPU's page, as boot.S lays it out.
struct CpuArea {
  uint8_t task[0x80];
  GapMeter gap;
  uint64_t loops;
  uint32_t online, parked, apic_id;
};
static_assert(sizeof(CpuArea) < kRing0StackTop - 512, "ring 0 needs its stack");

uint8_t apic_ids[kMaxCpus];
uint32_t cpus_seen, cpus_online = 1;
uint32_t park_requested;

}  // namespace

extern "C" char cpu_areas[];

namespace {

CpuArea& Area(uint32_t index) {
  return *reinterpret_cast<CpuArea*>(cpu_areas + static_cast<uint64_t>(index) * kCpuAreaSize);
}

void LookForCpus() {
  if (cpus_seen != 0) return;
  cpus_seen = FindCpus(apic_ids, kMaxCpus);
  if (cpus_seen != 0) return;
  cpus_seen = 1;
  for (uint32_t i = 0; i < kMaxCpus; i++) apic_ids[i] = i;
}

// After a reboot in place the page still holds the last run's.
void ClearCounters(CpuArea& area) {
  area.gap.Restart();
  area.loops = 0;
  area.online = area.parked = 0;
}

void FillTask(uint32_t index) {
  const uint64_t base = reinterpret_cast<uint64_t>(&Area(index));
  const uint64_t stack = base + kRing0StackTop;
  __builtin_memcpy(cpu_areas + index * kCpuAreaSize + 4, &stack, sizeof(stack));
  Area(index).task[102] = 0x68;  // no I/O bitmap within the limit
  gdt[kFirstTask / 8 + 2 * index] =
      0x67 | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24) << 56;
  gdt[kFirstTask / 8 + 2 * index + 1] = base >> 32;
}

void PrepareTrampoline() {
  for (uint32_t i = 0; i < kFirstTask / 8; i++) gdt[i] = boot_gdt[i];
  auto* to = reinterpret_cast<volatile char*>(static_cast<uint64_t>(kTrampoline));
  for (const char* from = trampoline; from < trampoline_end; from++) *to++ = *from;
}

// False if the flag did not take the value in time.
bool WaitUntil(const uint32_t& flag, uint32_t value, uint64_t ms) {
  const uint64_t end = Tsc() + MsToCycles(ms);
  while (Load(flag) != value) {
    gap_meter.Sample();
    if (static_cast<int64_t>(Tsc() - end) > 0) return false;
  }
  return true;
}

// vCPUs take their indexes in the order in which they arrive: the next one is `index`.
bool StartCpu(uint32_t apic_id, uint32_t index) {
  SendInit(apic_id);
  ClearCounters(Area(index));
  FillTask(index);
  WaitUntil(Area(index).online, 1, 1);
  SendStartup(apic_id);
  if (WaitUntil(Area(index).online, 1, 200)) return true;
  SendStartup(apic_id);
  return WaitUntil(Area(index).online, 1, 1000);
}

}  // namespace

uint32_t CpusSeen() {
  LookForCpus();
  return cpus_seen;
}

uint32_t CpusOnline() { return cpus_online; }

uint32_t CpuApicId(uint32_t index) { return Area(index).apic_id; }

bool StartCpus(uint32_t total) {
  LookForCpus();
  if (total == 0) total = cpus_seen;
  if (total > kMaxCpus) return false;
  PrepareTrampoline();
  const uint32_t self = LapicId();
  uint32_t others = 0;
  for (uint32_t i = 0; i < kMaxCpus && cpus_online < total; i++) {
    if (apic_ids[i] == self || ++others < cpus_online) continue;
    if (!StartCpu(apic_ids[i], cpus_online)) return false;
    cpus_online++;
  }
  return cpus_online == total;
}

void ParkCpus(bool park) {
  Store(park_requested, static_cast<uint32_t>(park));
  for (uint32_t i = 1; i < cpus_online; i++) {
    if (!park) SendWake(Area(i).apic_id);
    WaitUntil(Area(i).parked, park, 1000);
  }
}

void PrintCpus() {
  for (uint64_t i = 1; i < cpus_online; i++) {
    CpuArea& area = Area(i);
    const uint64_t gap = area.gap.longest();
    Print("cpu index=%u apic=%u loops=%u gap_cycles=%u gap_ns=%u parked=%u\n", i,
          uint64_t{area.apic_id}, Load(area.loops), gap, CyclesToNs(gap),
          uint64_t{Load(area.parked)});
  }
}

}  // namespace guest

void secondary_main(uint32_t index) {
  using namespace guest;
  CpuArea& area = Area(index);
  area.apic_id = LapicId();
  EnableInterrupts();
  Store(area.online, 1u);
  for (;;) {
    area.gap.Sample();
    Store(area.loops, area.loops + 1);
    if (nested.Step(index) || !Load(park_requested)) continue;
    Store(area.parked, 1u);
    Ring0(Ring0Function::kHaltWhile, reinterpret_cast<uint64_t>(&park_requested), 1);
    area.gap.Forgive();
    if (!Load(park_requested)) Store(area.parked, 0u);
  }
}
