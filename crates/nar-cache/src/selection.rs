//! Which part of a file a request is to get: conditions and ranges (RFC 9110 §13 and §14).

use std::ops::Range;

use hyper::HeaderMap;
use hyper::header::{AsHeaderName, IF_NONE_MATCH, IF_RANGE, RANGE};

use crate::blob::ETag;

/// What of a file goes into the response to a GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection {
    /// All of it: 200.
    Whole,
    /// These bytes, at least one: 206.
    Part(Range<u64>),
    /// Nothing, the client has it: 304.
    NotModified,
    /// Nothing, the range begins behind the end: 416.
    Unsatisfiable,
}

impl Selection {
    /// Evaluates the request's headers against a file with this tag and length.
    ///
    /// Several ranges at once, another unit and anything malformed get the whole file, as RFC 9110 §14.2 allows: no boot loader and
    /// no Nix asks so, and a multipart body would need a framing of its own.
    pub(crate) fn of(headers: &HeaderMap, etag: &ETag, len: u64) -> Self {
        if headers.contains_key(IF_NONE_MATCH) && lists(headers, IF_NONE_MATCH).any(|tag| etag.matches_weakly(tag)) {
            return Self::NotModified;
        }
        // A date can't match: no Last-Modified is ever sent.
        let unchanged = text(headers, IF_RANGE).is_none_or(|tag| etag.is(tag));
        match text(headers, RANGE).filter(|_| unchanged && headers.get_all(RANGE).iter().count() == 1) {
            Some(range) => Self::of_range(range, len),
            None => Self::Whole,
        }
    }

    fn of_range(range: &str, len: u64) -> Self {
        match first_and_last(range) {
            Some((Some(first), _)) if first >= len => Self::Unsatisfiable,
            Some((Some(first), Some(last))) => Self::Part(first..last.saturating_add(1).min(len)),
            Some((Some(first), None)) => Self::Part(first..len),
            Some((None, Some(0))) => Self::Unsatisfiable,
            Some((None, Some(suffix))) if len > 0 => Self::Part(len.saturating_sub(suffix)..len),
            _ => Self::Whole,
        }
    }
}

/// `bytes=first-last`, `bytes=first-` or `bytes=-suffix`.
fn first_and_last(range: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, spec) = range.split_once('=')?;
    let (first, last) = spec.trim().split_once('-')?;
    let (first, last) = (position(first)?, position(last)?);
    let runs_backwards = matches!((first, last), (Some(first), Some(last)) if last < first);
    let says_nothing = first.is_none() && last.is_none();
    (unit.trim().eq_ignore_ascii_case("bytes") && !runs_backwards && !says_nothing).then_some((first, last))
}

/// Digits, or nothing at all. A number beyond 64 bits is as good as the largest.
fn position(digits: &str) -> Option<Option<u64>> {
    match digits.bytes().all(|b| b.is_ascii_digit()) {
        true if digits.is_empty() => Some(None),
        true => Some(Some(digits.parse().unwrap_or(u64::MAX))),
        false => None,
    }
}

fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn lists(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',').map(str::trim))
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn select(headers: &[(HeaderName, &str)], len: u64) -> Selection {
        let headers =
            headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
        Selection::of(&headers, &ETag::of_name("a"), len)
    }

    #[test]
    fn ranges() {
        for (range, selection) in [
            ("bytes=0-0", Selection::Part(0..1)),
            ("bytes=0-9", Selection::Part(0..10)),
            ("bytes=3-", Selection::Part(3..10)),
            ("BYTES = 3-5", Selection::Part(3..6)),
            ("bytes=9-99999999999999999999999", Selection::Part(9..10)),
            ("bytes=-4", Selection::Part(6..10)),
            ("bytes=-99", Selection::Part(0..10)),
            ("bytes=10-", Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=0-1,4-5", Selection::Whole),
            ("bytes=5-3", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("bytes=a-b", Selection::Whole),
            ("lines=0-1", Selection::Whole),
            ("0-1", Selection::Whole),
            ("", Selection::Whole),
        ] {
            assert_eq!(select(&[(RANGE, range)], 10), selection, "{range:?}");
        }
        assert_eq!(select(&[(RANGE, "bytes=0-1"), (RANGE, "bytes=2-3")], 10), Selection::Whole);
    }

    #[test]
    fn an_empty_file_has_no_part() {
        assert_eq!(select(&[(RANGE, "bytes=0-")], 0), Selection::Unsatisfiable);
        assert_eq!(select(&[(RANGE, "bytes=-5")], 0), Selection::Whole);
    }

    #[test]
    fn conditions() {
        for (tags, selection) in [
            ("\"a\"", Selection::NotModified),
            ("\"b\", W/\"a\"", Selection::NotModified),
            ("*", Selection::NotModified),
            ("\"b\"", Selection::Whole),
            ("a", Selection::Whole),
        ] {
            assert_eq!(select(&[(IF_NONE_MATCH, tags)], 10), selection, "{tags}");
        }
        // 304 goes before 206 (RFC 9110 §13.2.2).
        assert_eq!(select(&[(IF_NONE_MATCH, "\"a\""), (RANGE, "bytes=0-1")], 10), Selection::NotModified);
    }

    #[test]
    fn a_range_of_another_version_is_the_whole_file() {
        for (tag, selection) in [
            ("\"a\"", Selection::Part(0..2)),
            ("\"b\"", Selection::Whole),
            ("W/\"a\"", Selection::Whole),
            ("Mon, 23 Nov 2026 02:35:07 GMT", Selection::Whole),
        ] {
            assert_eq!(select(&[(IF_RANGE, tag), (RANGE, "bytes=0-1")], 10), selection, "{tag}");
        }
    }
}
