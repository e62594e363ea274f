//! What the process has, second by second, and whether it grows.

/// Memory of one moment, in kB as the kernel counts them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sample {
    pub(crate) second: f64,
    pub(crate) rss: f64,
    pub(crate) pss: f64,
}

/// Reads the process's memory; as root, because it is not dumpable.
pub(crate) fn sample(process: u32, second: f64) -> Sample {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("as root");
    let line = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name)).expect("a line of that name");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    };
    Sample { second, rss: line("Rss:"), pss: line("Pss:") }
}

pub(crate) fn mean(samples: &[Sample], of: fn(&Sample) -> f64) -> f64 {
    samples.iter().map(of).sum::<f64>() / samples.len().max(1) as f64
}

/// Growth from the first to the last of these, by the straight line that fits them best.
pub(crate) fn growth(samples: &[Sample], of: fn(&Sample) -> f64) -> f64 {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return 0.0 };
    let (middle, level) = (mean(samples, |sample| sample.second), mean(samples, of));
    let (mut rise, mut run) = (0.0, 0.0);
    for sample in samples {
        rise += (sample.second - middle) * (of(sample) - level);
        run += (sample.second - middle).powi(2);
    }
    if run > 0.0 { rise / run * (last.second - first.second) } else { 0.0 }
}
