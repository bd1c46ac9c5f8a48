#include "agent/helper/run_helper.h"

int main(int argc, char** argv) { return drover::RunHelper(argc, argv); }
