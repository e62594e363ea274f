//! Line plots as SVG: medians, their range, a legend.

use anyhow::anyhow;
use plotters::coord::ranged1d::AsRangedCoord;
use plotters::prelude::*;

const SIZE: (u32, u32) = (760, 420);

/// A line of the legend, of the height that is left for the lines' area.
const LEGEND_LINE: f64 = 0.055;
/// What is around the legend.
const LEGEND_FRAME: f64 = 0.06;

/// One line of a plot.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// What the legend says.
    pub(super) name: String,
    /// How it is drawn.
    pub(super) look: Look,
    /// x, median, least, most; sorted by x.
    pub(super) points: Vec<(f64, f64, f64, f64)>,
}

/// How a line is drawn: whose it is tells its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// This system.
    Ours,
    /// This system, another quantity.
    OursToo,
    /// Mosquitto.
    Mosquitto,
    /// Mosquitto, another quantity.
    MosquittoToo,
    /// The paper's.
    Paper,
    /// The paper's, another quantity.
    PaperToo,
}

impl Look {
    const fn colour(self) -> RGBColor {
        match self {
            Look::Ours => RGBColor(0, 92, 175),
            Look::OursToo => RGBColor(86, 160, 230),
            Look::Mosquitto => RGBColor(200, 80, 20),
            Look::MosquittoToo => RGBColor(235, 150, 90),
            Look::Paper => RGBColor(110, 110, 110),
            Look::PaperToo => RGBColor(165, 165, 165),
        }
    }
}

/// What is drawn.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    /// Above it.
    pub(super) title: String,
    /// Below it.
    pub(super) x: String,
    /// Beside it.
    pub(super) y: String,
    /// A logarithmic x axis.
    pub(super) log_x: bool,
    /// A logarithmic y axis.
    pub(super) log_y: bool,
    /// The lines.
    pub(super) series: Vec<Series>,
}

impl Plot {
    /// As SVG; nothing if there is no point.
    ///
    /// # Errors
    /// It cannot be drawn.
    pub(super) fn svg(&self) -> anyhow::Result<Option<String>> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let Some((mut left, mut right)) = range(points().map(|(x, ..)| *x)) else { return Ok(None) };
        let (least, most) =
            range(points().flat_map(|(_, _, least, most)| [*least, *most])).unwrap_or((0.0, 1.0));
        if (right - left).abs() < f64::EPSILON {
            (left, right) = (left * 0.9, right * 1.1 + f64::EPSILON);
        }
        // The legend stands above all lines, and takes so much of the height.
        let free = 1.0 - crate::results::float(self.series.len() as u64) * LEGEND_LINE - LEGEND_FRAME;
        let (bottom, top) = match self.log_y {
            true => (least * 0.7, least * 0.7 * (most / (least * 0.7)).powf(1.0 / free)),
            false => (0.0, most / free),
        };
        let mut text = String::new();
        {
            let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
            root.fill(&WHITE).map_err(wrong)?;
            let pad = (right - left) * 0.02;
            match (self.log_x, self.log_y) {
                (false, false) => self.draw(&root, (left - pad).min(0.0)..right + pad, bottom..top)?,
                (true, false) => {
                    self.draw(&root, (left * 0.9..right * 1.1).log_scale(), bottom..top)?;
                }
                (false, true) => {
                    self.draw(&root, (left - pad).min(0.0)..right + pad, (bottom..top).log_scale())?;
                }
                (true, true) => {
                    self.draw(&root, (left * 0.9..right * 1.1).log_scale(), (bottom..top).log_scale())?;
                }
            }
            root.present().map_err(wrong)?;
        }
        text.push('\n');
        Ok(Some(text))
    }

    fn draw<X, Y>(
        &self,
        root: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
        x: X,
        y: Y,
    ) -> anyhow::Result<()>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: plotters::coord::ranged1d::ValueFormatter<f64>,
        Y::CoordDescType: plotters::coord::ranged1d::ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(root)
            .caption(&self.title, ("sans-serif", 19))
            .margin(14)
            .x_label_area_size(46)
            .y_label_area_size(66)
            .build_cartesian_2d(x, y)
            .map_err(wrong)?;
        chart
            .configure_mesh()
            .x_desc(&self.x)
            .y_desc(&self.y)
            .axis_desc_style(("sans-serif", 15))
            .label_style(("sans-serif", 13))
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.10))
            .x_label_formatter(&|number| crate::stats::axis(*number))
            .y_label_formatter(&|number| crate::stats::axis(*number))
            .draw()
            .map_err(wrong)?;
        for series in &self.series {
            let colour = series.look.colour();
            let style = colour.stroke_width(2);
            let line = LineSeries::new(series.points.iter().map(|(x, y, ..)| (*x, *y)), style);
            chart
                .draw_series(line)
                .map_err(wrong)?
                .label(&series.name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 22, y)], style));
            let dots = series.points.iter().map(|(x, y, ..)| Circle::new((*x, *y), 3, colour.filled()));
            chart.draw_series(dots).map_err(wrong)?;
            let ranges =
                series.points.iter().filter(|(_, _, least, most)| most > least).map(|(x, _, least, most)| {
                    PathElement::new(vec![(*x, *least), (*x, *most)], colour.mix(0.55).stroke_width(1))
                });
            chart.draw_series(ranges).map_err(wrong)?;
        }
        chart
            .configure_series_labels()
            .label_font(("sans-serif", 13))
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.25))
            .position(SeriesLabelPosition::UpperLeft)
            .draw()
            .map_err(wrong)?;
        Ok(())
    }
}

fn wrong<E: std::fmt::Display>(error: E) -> anyhow::Error {
    anyhow!("a plot cannot be drawn: {error}")
}

fn range(numbers: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    numbers.filter(|number| number.is_finite()).fold(None, |range, number| match range {
        None => Some((number, number)),
        Some((least, most)) => Some((least.min(number), most.max(number))),
    })
}

#[cfg(test)]
mod tests {
    use super::{Look, Plot, Series};

    #[test]
    fn a_plot_shows_every_line_and_what_it_is() {
        let line = |name: &str, look, height: f64| Series {
            name: name.to_owned(),
            look,
            points: (1..=4).map(|x| (f64::from(x) * 100.0, height, height * 0.9, height * 1.1)).collect(),
        };
        for (log_x, log_y) in [(false, false), (true, false), (false, true), (true, true)] {
            let plot = Plot {
                title: "Mean & more".to_owned(),
                x: "owners".to_owned(),
                y: "ms".to_owned(),
                log_x,
                log_y,
                series: vec![line("OAuthing", Look::Ours, 2.0), line("Mosquitto", Look::Mosquitto, 1.0)],
            };
            let svg = plot.svg().expect("it is drawn").expect("there are points");
            for part in ["<svg", "OAuthing", "Mosquitto", "owners", "Mean &amp; more", "#005CAF", "#C85014"] {
                assert!(svg.contains(part), "{part} in {svg}");
            }
        }
        let empty = Plot {
            title: String::new(),
            x: String::new(),
            y: String::new(),
            log_x: false,
            log_y: false,
            series: Vec::new(),
        };
        assert!(empty.svg().expect("no mistake").is_none());
    }
}
