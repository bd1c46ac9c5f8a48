#include "agent/cli/cli.h"

int main(int argc, char** argv) { return drover::CliMain(argc, argv); }
