//! What one grant sees of one topic: a view and what it has to remember from one payload to the next.

use crate::filter::Passed;
use crate::hash::HashKey;
use crate::summary::Window;
use crate::view::View;
use std::rc::Rc;

/// What a view shows of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The payload itself.
    AsIs,
    /// This instead.
    Instead(Vec<u8>),
    /// Nothing now: it is part of a window.
    Counted,
    /// Nothing.
    Nothing,
}

/// A view at work. Times are milliseconds since the Unix epoch that do not go back.
#[derive(Debug)]
pub struct Lens {
    view: Rc<View>,
    state: State,
}

#[derive(Debug)]
enum State {
    Stateless,
    Filter(Passed),
    Summary(Box<Window>),
}

impl View {
    /// Whether what is shown of a payload depends on earlier ones. A view that does not remember needs no lens.
    pub const fn remembers(&self) -> bool {
        match self {
            View::Raw | View::Coarsening(_) => false,
            View::Filter(_) | View::Summary(_) => true,
        }
    }

    /// What a view that does not remember shows of a payload; nothing for one that does. `key` is the grant's.
    pub fn see(&self, payload: &[u8], key: Option<&HashKey>) -> Seen {
        match self {
            View::Raw => Seen::AsIs,
            View::Coarsening(coarsening) => {
                coarsening.apply(payload, key).map_or(Seen::Nothing, Seen::Instead)
            }
            View::Filter(_) | View::Summary(_) => Seen::Nothing,
        }
    }
}

impl Lens {
    /// A lens that has seen nothing.
    pub fn new(view: Rc<View>) -> Lens {
        let state = match &*view {
            View::Raw | View::Coarsening(_) => State::Stateless,
            View::Filter(_) => State::Filter(Passed::default()),
            View::Summary(summary) => State::Summary(Box::new(Window::new(summary))),
        };
        Lens { view, state }
    }

    /// Shows it a payload. Call [`Self::due`] before if [`Self::next_due`] has come: a window that has ended is forgotten
    /// otherwise. `key` is the grant's, for fields that are hashed.
    pub fn see(&mut self, payload: &[u8], key: Option<&HashKey>, now: u64) -> Seen {
        match (&*self.view, &mut self.state) {
            (View::Filter(filter), State::Filter(passed)) => filter.see(passed, payload, now),
            (View::Summary(summary), State::Summary(window)) => {
                if window.see(summary, payload, now) > 0 {
                    Seen::Counted
                } else {
                    Seen::Nothing
                }
            }
            (view @ (View::Raw | View::Coarsening(_)), _) => view.see(payload, key),
            (View::Filter(_) | View::Summary(_), _) => Seen::Nothing,
        }
    }

    /// The summary of a window that has ended by now, if it may be shown.
    pub fn due(&mut self, now: u64) -> Option<Vec<u8>> {
        match (&*self.view, &mut self.state) {
            (View::Summary(summary), State::Summary(window)) => window.due(summary, now),
            _ => None,
        }
    }

    /// When the open window ends, if there is anything in it.
    pub fn next_due(&self) -> Option<u64> {
        match (&*self.view, &self.state) {
            (View::Summary(summary), State::Summary(window)) => window.ends(summary),
            _ => None,
        }
    }

    /// What it costs to keep it, in bytes, roughly.
    pub fn cost(&self) -> usize {
        size_of::<Lens>()
            + match &self.state {
                State::Stateless | State::Filter(_) => 0,
                State::Summary(window) => window.cost(),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lens, Seen};
    use crate::View;
    use proptest::prelude::*;
    use std::rc::Rc;

    fn lens(json: &str) -> Lens {
        Lens::new(Rc::new(serde_json::from_str(json).unwrap()))
    }

    #[test]
    fn each_kind_does_its_part() {
        assert_eq!(lens(r#"{"kind":"raw"}"#).see(b"anything", None, 0), Seen::AsIs);
        let mut filter = lens(r#"{"kind":"filter","above":20}"#);
        assert_eq!((filter.see(b"21", None, 0), filter.see(b"19", None, 0)), (Seen::AsIs, Seen::Nothing));
        assert_eq!((filter.next_due(), filter.due(u64::MAX)), (None, None));
        let mut coarse = lens(r#"{"kind":"coarsening","round":0.5}"#);
        assert_eq!(coarse.see(b"21.47", None, 0), Seen::Instead(b"21.5".to_vec()));
        let mut summary = lens(r#"{"kind":"summary","window_s":10,"min_samples":2}"#);
        assert_eq!(summary.see(b"none", None, 1), Seen::Nothing);
        assert_eq!(summary.next_due(), None, "nothing numeric, nothing windowed");
        assert_eq!(
            (summary.see(b"1", None, 1), summary.see(b"3", None, 9_999)),
            (Seen::Counted, Seen::Counted)
        );
        assert_eq!(summary.next_due(), Some(10_000));
        assert_eq!(summary.due(10_000).unwrap(), br#"{"count":2,"from":0,"mean":2,"std":1,"to":10}"#);
    }

    #[test]
    fn a_view_without_memory_needs_no_lens() {
        let coarse: View = serde_json::from_str(r#"{"kind":"coarsening","round":10}"#).unwrap();
        assert!(!coarse.remembers());
        assert_eq!(coarse.see(b"14", None), Seen::Instead(b"10".to_vec()));
        let summary: View = serde_json::from_str(r#"{"kind":"summary","window_s":10}"#).unwrap();
        assert!(summary.remembers());
        assert_eq!(summary.see(b"14", None), Seen::Nothing);
    }

    proptest! {
        #[test]
        fn nothing_panics_whatever_comes(
            kind in 0..5usize,
            payloads in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), any::<u64>()), 1..20),
        ) {
            let mut lens = lens([
                r#"{"kind":"filter","field":"t","dead_band":1,"interval_s":5}"#,
                r#"{"kind":"filter","above":0}"#,
                r#"{"kind":"summary","window_s":86400,"histogram":[1,2]}"#,
                r#"{"kind":"summary","window_s":10,"field":"t"}"#,
                r#"{"kind":"coarsening","round":0.5,"drop":["a"],"hash":["b"]}"#,
            ][kind]);
            for (payload, now) in payloads {
                lens.due(now);
                lens.see(&payload, None, now);
                lens.see(b"1.7e308", None, now);
                lens.see(b"-1.7e308", None, now);
                lens.see(br#"[{"n":"t","bv":1e308,"v":-1}]"#, None, now);
            }
            lens.due(u64::MAX);
        }
    }
}
