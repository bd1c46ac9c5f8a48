#include "e2e/guest/boot_info.h"
#include "e2e/guest/command_table.h"
#include "e2e/guest/console.h"
#include "e2e/guest/pattern.h"
#include "e2e/guest/ring0.h"
#include "e2e/guest/touch.h"

namespace guest {
namespace {

constexpr uint64_t kDefaultTouchBase = 16 << 20;
constexpr uint64_t kDefaultTouchSize = 64 << 20;

void PrintTouch(const char* verb) {
  const TouchPlan& plan = toucher.plan();
  Print("ok %s running=%u base=%x size=%u pages=%u writes=%u", verb, uint64_t{toucher.running()},
        plan.base, plan.size, plan.size / kPageSize, toucher.writes());
  Print(" rate=%u seed=%u bytes=%u passes=%u\n", plan.rate, plan.seed, plan.bytes, plan.passes);
}

// Size 0 in the plan: the default, or less if there is less.
bool CompletePlan(TouchPlan* plan) {
  const Range free = FreeRamFrom(plan->base);
  if (plan->size == 0) {
    plan->size = free.size < kDefaultTouchSize ? free.size & ~(kPageSize - 1) : kDefaultTouchSize;
  }
  if ((plan->base | plan->size) % kPageSize != 0) {
    Print("error touch base and size must be multiples of 4096\n");
  } else if (plan->size == 0 || !IsFreeRam(plan->base, plan->size)) {
    Print("error touch no free RAM at %x of size %u: see memmap\n", plan->base, plan->size);
  } else if (plan->bytes == 0 || plan->bytes > kPageSize || plan->bytes % 8 != 0) {
    Print("error touch bytes must be a multiple of 8 from 8 to 4096\n");
  } else if (plan->rate > 1000000000) {
    Print("error touch rate must be at most 1000000000\n");
  } else {
    return true;
  }
  return false;
}

}  // namespace

void Touch(Arguments& arguments) {
  if (arguments.Take("stop")) {
    toucher.Stop();
    return PrintTouch("touch");
  }
  if (*arguments.Rest() == 0 && toucher.plan().size != 0) return PrintTouch("touch");
  Option o[] = {{"base", kDefaultTouchBase}, {"size", 0},  {"rate", 0}, {"seed", 1},
                {"bytes", kPageSize},        {"passes", 0}};
  if (!arguments.Read("touch", o)) return;
  TouchPlan plan = {o[0].value, o[1].value, o[2].value, o[3].value, o[4].value, o[5].value};
  if (!CompletePlan(&plan)) return;
  toucher.Start(plan);
  PrintTouch("touch");
}

void Verify(Arguments&) {
  const VerifyResult result = toucher.Verify();
  Print("%s verify pages=%u bad=%u writes=%u checksum=%x\n", result.bad ? "error" : "ok",
        result.pages, result.bad, toucher.writes(), result.checksum);
}

void ChecksumCommand(Arguments& arguments) {
  Option o[] = {{"base", toucher.plan().base}, {"size", toucher.plan().size}};
  if (!arguments.Read("checksum", o)) return;
  const uint64_t base = o[0].value, size = o[1].value;
  if (base % 8 != 0 || size % 8 != 0 || !IsFreeRam(base, size)) {
    Print("error checksum no free RAM at %x of size %u, or not aligned to 8: see memmap\n", base,
          size);
    return;
  }
  Print("ok checksum base=%x size=%u checksum=%x\n", base, size, Checksum(base, size));
}

void Poke(Arguments& arguments) {
  Option o[] = {{"address", 0}, {"value", 0}};
  if (!arguments.Read("poke", o)) return;
  if (o[0].value % 8 != 0 || !IsFreeRam(o[0].value, 8)) {
    Print("error poke no free RAM at %x, or not aligned to 8: see memmap\n", o[0].value);
    return;
  }
  Store(*reinterpret_cast<uint64_t*>(o[0].value), o[1].value);
  Print("ok poke address=%x value=%x\n", o[0].value, o[1].value);
}

}  // namespace guest
