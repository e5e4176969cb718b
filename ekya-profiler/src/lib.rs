//! ekya-profiler
