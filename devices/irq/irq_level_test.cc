#include "devices/irq/irq_level.h"

#include <thread>
#include <vector>

#include "devices/irq/fake_irq_line.h"
#include "gtest/gtest.h"

namespace drover {
namespace {

TEST(IrqLevelTest, PublishesTheLastLevel) {
  FakeIrqLine line;
  IrqLevel level(&line);
  level.Note(true);
  EXPECT_FALSE(line.high());
  level.Publish();
  EXPECT_TRUE(line.high());
  level.Note(true);
  level.Publish();
  EXPECT_EQ(line.edges(), 1);
  level.Note(false);
  level.Publish();
  EXPECT_FALSE(line.high());
}

TEST(IrqLevelTest, ADropBetweenTwoHighsIsAnEdge) {
  FakeIrqLine line;
  IrqLevel level(&line);
  level.Note(true);
  level.Publish();
  level.Note(false);
  level.Note(true);
  level.Publish();
  EXPECT_TRUE(line.high());
  EXPECT_EQ(line.edges(), 2);
}

TEST(IrqLevelTest, APulseBeforeAnyoneSawItIsOneEdgeOrNone) {
  FakeIrqLine line;
  IrqLevel level(&line);
  level.Note(true);
  level.Note(false);
  level.Publish();
  EXPECT_FALSE(line.high());
  EXPECT_EQ(line.edges(), 0);
}

TEST(IrqLevelTest, NoLine) {
  IrqLevel level(nullptr);
  level.Note(true);
  level.Publish();
}

// A line whose Set comes back into the device, as a line that wakes a vCPU could.
class ReentrantLine : public IrqLine {
 public:
  void Set(bool high) override {
    last = high;
    if (high) level->Note(false);
    level->Publish();
  }
  IrqLevel* level = nullptr;
  bool last = false;
};

TEST(IrqLevelTest, TheLineMayChangeTheLevel) {
  ReentrantLine line;
  IrqLevel level(&line);
  line.level = &level;
  level.Note(true);
  level.Publish();
  EXPECT_FALSE(line.last);
}

TEST(IrqLevelTest, ManyThreadsEndAtTheLastLevel) {
  FakeIrqLine line;
  IrqLevel level(&line);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&level] {
      for (int i = 0; i < 2000; ++i) {
        level.Note(i % 2 == 0);
        level.Publish();
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(line.high());
}

}  // namespace
}  // namespace drover
