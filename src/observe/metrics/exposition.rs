//! The two text forms Prometheus reads.
//!
//! OpenMetrics names a counter's family without `_total`, and marks the end with `# EOF`; the older form names the family as its
//! series and knows no end. Nothing else differs in what we write, so the older form is made from the newer.

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;
use std::fmt;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OpenMetrics 1.0.0, what Prometheus asks for.
    OpenMetrics,
    /// The text format 0.0.4, which everything reads, `promtool check metrics` too.
    Plain,
}

impl Form {
    /// The form to answer this `Accept` header with.
    pub fn wanted_by(accept: Option<&str>) -> Form {
        match accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            true => Form::OpenMetrics,
            false => Form::Plain,
        }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Form::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

pub(super) fn write(registries: &[&Registry], form: Form) -> Result<String, fmt::Error> {
    let mut text = String::new();
    for registry in registries {
        encode_registry(&mut text, registry)?;
    }
    match form {
        Form::OpenMetrics => encode_eof(&mut text).map(|()| text),
        Form::Plain => Ok(plain(&text)),
    }
}

/// From OpenMetrics, without its end mark, to the older form.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let total = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                out.push_str(&format!("# HELP {name}{total} {help}\n"));
            }
            out.push_str(&format!("# TYPE {name}{total} {kind}\n"));
        } else if !line.starts_with("# ") {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;

    type Named = Family<[(&'static str, String); 1], Gauge>;

    fn written(form: Form) -> String {
        let mut registry = crate::observe::metrics::registry();
        let (counter, gauge, histogram) =
            (Counter::<u64>::default(), Named::default(), Histogram::new([1.0]));
        registry.register("things", "Things seen", counter.clone());
        registry.register("state", "A state", gauge.clone());
        registry.register("wait_seconds", "A wait", histogram.clone());
        counter.inc_by(3);
        gauge.get_or_create(&[("name", "a \"b\" \\ c\n# TYPE x".to_owned())]).set(-1);
        histogram.observe(0.5);
        write(&[&registry], form).unwrap()
    }

    #[test]
    fn writes_open_metrics() {
        let expect = "# HELP daybook_things Things seen.\n# TYPE daybook_things counter\ndaybook_things_total 3\n\
                      # HELP daybook_state A state.\n# TYPE daybook_state gauge\n\
                      daybook_state{name=\"a \\\"b\\\" \\\\ c\\n# TYPE x\"} -1\n\
                      # HELP daybook_wait_seconds A wait.\n# TYPE daybook_wait_seconds histogram\n\
                      daybook_wait_seconds_sum 0.5\ndaybook_wait_seconds_count 1\n\
                      daybook_wait_seconds_bucket{le=\"1.0\"} 1\ndaybook_wait_seconds_bucket{le=\"+Inf\"} 1\n# EOF\n";
        assert_eq!(written(Form::OpenMetrics), expect);
    }

    #[test]
    fn the_older_form_names_counters_whole_and_has_no_end() {
        let newer = written(Form::OpenMetrics);
        let expect = newer
            .replace("# HELP daybook_things ", "# HELP daybook_things_total ")
            .replace("# TYPE daybook_things ", "# TYPE daybook_things_total ")
            .replace("# EOF\n", "");
        assert_eq!(written(Form::Plain), expect);
    }

    #[test]
    fn gives_each_asker_a_form_it_reads() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Form::wanted_by(Some(prometheus)), Form::OpenMetrics);
        for accept in [None, Some("*/*"), Some("text/plain;version=0.0.4"), Some("text/html")] {
            assert_eq!(Form::wanted_by(accept), Form::Plain, "{accept:?}");
        }
    }
}
