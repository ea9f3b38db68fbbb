//! Which source goes on with what another was. A name that was not given is only a place in the configuration: another section is
//! called so when one before it goes. So what a source reads says whose a list is, and the name decides where that leaves a choice.
//! Pure.

use crate::config::DirectorySource;
use std::collections::HashSet;

/// Something that was in force, or kept.
pub(super) struct Known<'a> {
    pub(super) name: &'a str,
    /// What was read; `None` where nothing says so.
    pub(super) place: Option<String>,
    /// Its settings, where they are known.
    pub(super) configured: Option<&'a DirectorySource>,
}

/// For each source, which of the known ones it goes on with; none twice. The same settings come first, then the same place, each under
/// the same name before another. A place that nobody reads any more was perhaps corrected: what was read there stays under its name.
pub(super) fn adopt(sources: &[DirectorySource], known: &[Known<'_>]) -> Vec<Option<usize>> {
    let places: Vec<String> = sources.iter().map(|source| source.kind.place()).collect();
    let is_read = |place: &str| places.iter().any(|other| other == place);
    let same_settings = |source: &DirectorySource, known: &Known<'_>| {
        known
            .configured
            .is_some_and(|had| DirectorySource { name: source.name.clone(), ..had.clone() } == *source)
    };
    let fits = |step: usize, source: &DirectorySource, place: &str, known: &Known<'_>| {
        let same_name = known.name == source.name;
        let same_place = known.place.as_deref() == Some(place);
        match step {
            0 => same_name && same_settings(source, known),
            1 => same_settings(source, known),
            2 => same_name && same_place,
            3 => same_place,
            _ => same_name && known.place.as_deref().is_none_or(|place| !is_read(place)),
        }
    };
    let mut adopted = vec![None; sources.len()];
    let mut taken = HashSet::new();
    for step in 0..=4 {
        for ((source, place), adopted) in sources.iter().zip(&places).zip(&mut adopted) {
            if adopted.is_some() {
                continue;
            }
            let found = known
                .iter()
                .enumerate()
                .find(|(index, known)| !taken.contains(index) && fits(step, source, place, known));
            if let Some((index, _)) = found {
                taken.insert(index);
                *adopted = Some(index);
            }
        }
    }
    adopted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, place: &str) -> DirectorySource {
        DirectorySource::file(name, place)
    }

    fn known<'a>(name: &'a str, place: &str) -> Known<'a> {
        Known { name, place: Some(place.to_owned()), configured: None }
    }

    #[test]
    fn what_is_read_says_whose_a_list_is_and_a_name_alone_only_where_nobody_else_reads_that() {
        let two = [known("csv", "a"), known("csv-2", "b")];
        assert_eq!(adopt(&[source("csv", "b")], &two), [Some(1)], "the first is gone");
        assert_eq!(adopt(&[source("csv", "b"), source("csv-2", "a")], &two), [Some(1), Some(0)], "reordered");
        assert_eq!(adopt(&[source("corp", "a"), source("csv", "b")], &two), [Some(0), Some(1)], "named");
        assert_eq!(adopt(&[source("csv", "c"), source("csv-2", "b")], &two), [Some(0), Some(1)], "corrected");
        let second_place = [source("csv", "c"), source("csv-2", "a"), source("csv-3", "b")];
        assert_eq!(adopt(&second_place, &two), [None, Some(0), Some(1)], "a new one before them");
        assert_eq!(adopt(&[source("other", "c")], &two), [None]);
        let unknown = [Known { name: "csv", place: None, configured: None }];
        assert_eq!(adopt(&[source("csv", "c")], &unknown), [Some(0)]);
    }

    #[test]
    fn of_one_place_read_twice_the_settings_decide() {
        let of = |name: &str, mailbox: &str| DirectorySource {
            mailboxes: Some(vec![mailbox.to_owned()]),
            ..source(name, "a")
        };
        let had = [of("ldap", "one"), of("ldap-2", "two")];
        let known = had.each_ref().map(|had| Known { configured: Some(had), ..known(&had.name, "a") });
        assert_eq!(adopt(&[of("ldap", "two")], &known), [Some(1)]);
        assert_eq!(adopt(&[of("ldap", "three"), of("ldap-2", "two")], &known), [Some(0), Some(1)]);
    }
}
