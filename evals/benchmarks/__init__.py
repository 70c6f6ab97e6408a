"""Published benchmarks as prompts, one file a benchmark; `registry.load_benchmark` is the way in."""
