//! `$(VAR)`: references to variables inside values, commands and arguments.

/// Replaces `$(NAME)` where `lookup` knows the name and leaves it as it is where it does not; `$$` is one `$`.
pub fn expand<'v>(text: &[u8], lookup: impl Fn(&str) -> Option<&'v [u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.iter().position(|it| *it == b'$') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let taken = match rest.get(1) {
            Some(b'$') => {
                out.push(b'$');
                2
            }
            Some(b'(') => match rest.iter().position(|it| *it == b')') {
                Some(end) => {
                    let known = std::str::from_utf8(&rest[2..end]).ok().and_then(&lookup);
                    out.extend_from_slice(known.unwrap_or(&rest[..=end]));
                    end + 1
                }
                None => copy(&mut out, rest, 2),
            },
            Some(_) => copy(&mut out, rest, 2),
            None => copy(&mut out, rest, 1),
        };
        rest = &rest[taken..];
    }
    out.extend_from_slice(rest);
    out
}

fn copy(out: &mut Vec<u8>, from: &[u8], count: usize) -> usize {
    out.extend_from_slice(&from[..count]);
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_where_the_name_is_known() {
        let check = |text: &str, want: &str| {
            let lookup = |name: &str| match name {
                "A" => Some(b"1".as_slice()),
                "B" => Some(b"$(A)".as_slice()),
                "EMPTY" => Some(b"".as_slice()),
                _ => None,
            };
            assert_eq!(String::from_utf8(expand(text.as_bytes(), lookup)).unwrap(), want, "{text}");
        };
        check("plain", "plain");
        check("$(A)", "1");
        check("x$(A)y$(A)", "x1y1");
        check("$(NOPE)", "$(NOPE)");
        check("$$(A)", "$(A)");
        check("$$$(A)", "$1");
        check("$(B)", "$(A)");
        check("$(EMPTY)|", "|");
        check("$A $", "$A $");
        check("$(A", "$(A");
        check("$($(A))", "$($(A))");
        check("é$(A)é", "é1é");
    }
}
