#ifndef DROVER_E2E_BENCH_FIGURE_H_
#define DROVER_E2E_BENCH_FIGURE_H_

#include <optional>
#include <string>
#include <vector>

namespace drover {

// One row of the table of figures.
struct Figure {
  std::string name;
  double value = 0;
  std::string unit;
  std::optional<double> baseline;  // measured in the same run, in the same unit
  std::string baseline_name;
  // Met when value (or, with goal_is_ratio, value / baseline) is at most `goal`; no goal: only
  // reported.
  std::optional<double> goal;
  bool goal_is_ratio = false;
  std::vector<double> samples;

  std::optional<double> ratio() const;
  std::optional<bool> met() const;
};

// The value below which `share` (0 to 1) of the samples lie. The samples are not empty.
double Quantile(std::vector<double> samples, double share);

// Prints one line of JSON for bench.py.
void Print(const Figure& figure);

}  // namespace drover

#endif  // DROVER_E2E_BENCH_FIGURE_H_
