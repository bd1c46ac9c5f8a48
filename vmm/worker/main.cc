#include "vmm/worker/command_line.h"

int main(int argc, char** argv) {
  return drover::RunDroverVmm({argv + 1, static_cast<size_t>(argc > 0 ? argc - 1 : 0)});
}
