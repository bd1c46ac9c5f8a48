// Runs a fuzz target over its corpus without libFuzzer: each seed as it is, every short prefix of
// it, and a fixed number of pseudo-random mutations, so that the ordinary tests exercise the target
// everywhere.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kMaxPrefixes = 512;
constexpr int kMutationsPerSeed = 2000;
constexpr size_t kMaxMutatedBytes = 8;

// Gives the target a heap copy of the exact size, so that ASan sees a read past its end.
void RunOne(const Bytes& input) {
  Bytes copy(input);
  copy.shrink_to_fit();
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

Bytes Mutate(const Bytes& seed, std::mt19937_64& random) {
  Bytes out = seed;
  if (!out.empty() && random() % 4 == 0) out.resize(random() % out.size() + 1);
  const size_t edits = random() % kMaxMutatedBytes + 1;
  for (size_t i = 0; i < edits && !out.empty(); ++i) {
    // Half of the edits fall into the first 256 bytes, where headers live.
    const size_t limit = random() % 2 == 0 && out.size() > 256 ? 256 : out.size();
    static constexpr uint8_t kEdges[] = {0, 1, 0x7f, 0x80, 0xfe, 0xff};
    const size_t at = random() % limit;
    out[at] =
        random() % 2 == 0 ? static_cast<uint8_t>(random()) : kEdges[random() % sizeof(kEdges)];
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  std::mt19937_64 random(20240229);
  size_t runs = 0;
  std::vector<Bytes> seeds = {{}};
  for (int i = 1; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "cannot read the corpus file %s\n", argv[i]);
      return 1;
    }
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  for (const Bytes& seed : seeds) {
    RunOne(seed);
    for (size_t n = 0; n < seed.size() && n < kMaxPrefixes; ++n, ++runs)
      RunOne(Bytes(seed.begin(), seed.begin() + static_cast<std::ptrdiff_t>(n)));
    for (int i = 0; i < kMutationsPerSeed; ++i, ++runs) RunOne(Mutate(seed, random));
  }
  std::printf("%zu inputs from %zu seeds\n", runs, seeds.size());
  return 0;
}
