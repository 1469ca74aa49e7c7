//! Figures: of several rounds the median, with its spread; and targets, reached or not.

/// One scenario's part of the report.
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// What was done, in a few sentences.
    pub about: String,
    /// What came out.
    pub rows: Vec<Row>,
}

/// One line of a table.
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Its unit; empty for a ratio.
    pub unit: &'static str,
    /// One value a round.
    pub values: Vec<f64>,
    /// What it should be.
    pub target: Option<Target>,
}

/// What a figure should be.
#[derive(Clone, Copy)]
pub enum Target {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

impl Target {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl Row {
    /// A figure without a target.
    pub fn of(what: impl Into<String>, unit: &'static str, values: Vec<f64>) -> Self {
        Self { what: what.into(), unit, values, target: None }
    }

    /// The quotients of two lists of the same rounds.
    pub fn ratio(what: impl Into<String>, of: &[f64], to: &[f64]) -> Self {
        let quotients = of.iter().zip(to).map(|(of, to)| of / to).collect();
        Self::of(what, "", quotients)
    }

    /// The same with a target.
    pub fn with(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// The row in a table of Markdown.
    pub fn line(&self) -> String {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = median(&sorted);
        let (least, most) = (sorted.first().copied(), sorted.last().copied());
        let spread = format!("{} - {}", short(least.unwrap_or(0.0)), short(most.unwrap_or(0.0)));
        let target = match self.target {
            None => String::new(),
            Some(Target::AtLeast(least)) => format!("at least {}", short(least)),
            Some(Target::AtMost(most)) => format!("at most {}", short(most)),
        };
        let verdict = match self.target.map(|target| target.holds(middle)) {
            None => "",
            Some(true) => "yes",
            Some(false) => "**no**",
        };
        let Self { what, unit, .. } = self;
        format!("| {what} | {} {unit} | {spread} | {target} | {verdict} |", short(middle))
    }
}

/// The middle of a sorted list.
fn median(sorted: &[f64]) -> f64 {
    match (sorted.get(sorted.len().wrapping_sub(1) / 2), sorted.get(sorted.len() / 2)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => 0.0,
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}
