//! Reads an expression: tokens, then a descent by precedence that goes no deeper than it may.

use super::{Comparison, Field, Function, Node, Party};
use crate::limits;

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {reason}")]
pub struct BadExpression {
    /// Where, in characters, the first being 1.
    pub column: usize,
    /// What is wrong there.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Number(f64),
    /// Any other sign.
    Sign(&'static str),
    End,
}

/// Longer ones first, so that `<=` is not read as `<`.
const SIGNS: [&str; 16] = ["==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "(", ")", "[", "]", ".", ",", "-"];

const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::Unequal),
    ("<", Comparison::Less),
    ("<=", Comparison::AtMost),
    (">", Comparison::More),
    (">=", Comparison::AtLeast),
];

const FIELDS: [(&str, &str, Field); 17] = [
    ("request", "method", Field::Method),
    ("request", "path", Field::Path),
    ("request", "url_path", Field::UrlPath),
    ("request", "host", Field::Host),
    ("request", "scheme", Field::Scheme),
    ("request", "size", Field::RequestSize),
    ("request", "id", Field::RequestId),
    ("request", "useragent", Field::UserAgent),
    ("request", "protocol", Field::Protocol),
    ("request", "duration", Field::Duration),
    ("response", "code", Field::Code),
    ("response", "flags", Field::Flags),
    ("response", "size", Field::ResponseSize),
    ("response", "code_details", Field::CodeDetails),
    ("response", "grpc_status", Field::GrpcStatus),
    ("connection", "mtls", Field::Mtls),
    ("connection", "requested_server_name", Field::ServerName),
];

const FUNCTIONS: [&str; 4] = ["startsWith", "endsWith", "contains", "matches"];

const PARTIES: [(&str, Party); 4] = [
    ("address", Party::Address),
    ("principal", Party::Principal),
    ("workload", Party::Workload),
    ("namespace", Party::Namespace),
];

pub(super) fn parse(text: &str) -> Result<Node, BadExpression> {
    if text.len() > limits::EXPRESSION_BYTES_MAX {
        let reason = format!("it has {} bytes; at most {}", text.len(), limits::EXPRESSION_BYTES_MAX);
        return Err(BadExpression { column: 1, reason });
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let node = parser.or()?;
    match parser.peek() {
        Token::End => Ok(node),
        _ => Err(parser.wrong("the expression should end")),
    }
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, BadExpression> {
    let characters: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(&c) = characters.get(at) {
        let column = at + 1;
        let token = match c {
            c if c.is_whitespace() => {
                at += 1;
                continue;
            }
            '\'' | '"' => Token::Text(quoted(&characters, &mut at)?),
            c if c.is_ascii_digit() => {
                let number = taken(&characters, &mut at, |c| c.is_ascii_digit() || c == '.');
                let wrong = |_| BadExpression { column, reason: format!("{number:?} is no number") };
                Token::Number(number.parse().map_err(wrong)?)
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                Token::Word(taken(&characters, &mut at, |c| c.is_ascii_alphanumeric() || c == '_'))
            }
            c => {
                let is = |sign: &&&str| sign.chars().zip(at..).all(|(c, at)| characters.get(at) == Some(&c));
                let sign = SIGNS.iter().find(is);
                let sign = sign.ok_or_else(|| BadExpression { column, reason: format!("{c:?} has no meaning") })?;
                at += sign.len();
                Token::Sign(sign)
            }
        };
        tokens.push((column, token));
    }
    tokens.push((characters.len() + 1, Token::End));
    Ok(tokens)
}

fn taken(characters: &[char], at: &mut usize, belongs: impl Fn(char) -> bool) -> String {
    let word: String = characters[*at..].iter().copied().take_while(|c| belongs(*c)).collect();
    *at += word.len();
    word
}

fn quoted(characters: &[char], at: &mut usize) -> Result<String, BadExpression> {
    let begin = *at;
    let wrong = |at: usize, reason: &str| BadExpression { column: at + 1, reason: reason.into() };
    let mut text = String::new();
    loop {
        *at += 1;
        match characters.get(*at) {
            None => return Err(wrong(begin, "the text that begins here does not end")),
            Some(c) if *c == characters[begin] => break,
            Some('\\') => {
                *at += 1;
                text.push(match characters.get(*at) {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some(c @ ('\\' | '\'' | '"')) => *c,
                    _ => return Err(wrong(*at, "after \\ stands one of \\ ' \" n t")),
                });
            }
            Some(c) => text.push(*c),
        }
    }
    *at += 1;
    Ok(text)
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(_, token)| token)
    }

    fn wrong(&self, reason: impl Into<String>) -> BadExpression {
        let last = self.tokens.last().map_or(1, |(column, _)| *column);
        let column = self.tokens.get(self.at).map_or(last, |(column, _)| *column);
        BadExpression { column, reason: reason.into() }
    }

    /// Whether a sign comes, which is then taken.
    fn takes(&mut self, sign: &str) -> bool {
        let comes = matches!(self.peek(), Token::Sign(found) if *found == sign);
        self.at += usize::from(comes);
        comes
    }

    fn needs(&mut self, sign: &str) -> Result<(), BadExpression> {
        if self.takes(sign) { Ok(()) } else { Err(self.wrong(format!("here should be {sign:?}"))) }
    }

    fn word(&mut self, what: &str) -> Result<String, BadExpression> {
        match self.peek().clone() {
            Token::Word(word) => {
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.wrong(format!("here should be {what}"))),
        }
    }

    /// Every recursion comes through here or [`Self::not`].
    fn or(&mut self) -> Result<Node, BadExpression> {
        self.deeper(|parser| {
            let mut any = vec![parser.and()?];
            while parser.takes("||") {
                any.push(parser.and()?);
            }
            Ok(if any.len() > 1 { Node::Or(any) } else { any.remove(0) })
        })
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Result<Node, BadExpression>) -> Result<Node, BadExpression> {
        if self.depth == limits::EXPRESSION_DEPTH_MAX {
            return Err(self.wrong(format!("nested deeper than {}", limits::EXPRESSION_DEPTH_MAX)));
        }
        self.depth += 1;
        let node = read(self);
        self.depth -= 1;
        node
    }

    fn and(&mut self) -> Result<Node, BadExpression> {
        let mut all = vec![self.comparison()?];
        while self.takes("&&") {
            all.push(self.comparison()?);
        }
        Ok(if all.len() > 1 { Node::And(all) } else { all.remove(0) })
    }

    fn comparison(&mut self) -> Result<Node, BadExpression> {
        let left = self.not()?;
        if matches!(self.peek(), Token::Word(word) if word == "in") {
            self.at += 1;
            return Ok(Node::In(Box::new(left), self.list()?));
        }
        let Some((_, how)) = COMPARISONS.iter().find(|(sign, _)| self.takes(sign)) else { return Ok(left) };
        Ok(Node::Compare(*how, Box::new(left), Box::new(self.not()?)))
    }

    fn list(&mut self) -> Result<Vec<Node>, BadExpression> {
        self.needs("[")?;
        let mut list = Vec::new();
        if self.takes("]") {
            return Ok(list);
        }
        loop {
            list.push(self.or()?);
            if !self.takes(",") {
                break;
            }
        }
        self.needs("]")?;
        Ok(list)
    }

    fn not(&mut self) -> Result<Node, BadExpression> {
        match self.takes("!") {
            true => Ok(Node::Not(Box::new(self.deeper(Self::not)?))),
            false => self.called(),
        }
    }

    /// Something, and functions of it.
    fn called(&mut self) -> Result<Node, BadExpression> {
        let mut node = self.atom()?;
        while self.takes(".") {
            let at = self.at;
            let name = self.word("the name of a function")?;
            if !FUNCTIONS.contains(&&*name) {
                self.at = at;
                return Err(self.wrong(format!("there is no function {name:?}")));
            }
            self.needs("(")?;
            let argument_at = self.at;
            let argument = self.or()?;
            self.needs(")")?;
            node = match (&*name, argument) {
                ("startsWith", part) => Node::Call(Function::StartsWith, Box::new(node), Box::new(part)),
                ("endsWith", part) => Node::Call(Function::EndsWith, Box::new(node), Box::new(part)),
                ("matches", Node::Text(pattern)) => {
                    self.at = argument_at;
                    let regex = crate::route::matcher::regex(&pattern, false, "expression");
                    let regex = regex.map_err(|error| self.wrong(error.reason))?;
                    self.at += 2;
                    Node::Matches(Box::new(node), regex)
                }
                ("matches", _) => {
                    self.at = argument_at;
                    return Err(self.wrong("an expression to match is a text that stands here"));
                }
                (_, part) => Node::Call(Function::Contains, Box::new(node), Box::new(part)),
            };
        }
        Ok(node)
    }

    fn atom(&mut self) -> Result<Node, BadExpression> {
        if self.takes("(") {
            let node = self.or()?;
            self.needs(")")?;
            return Ok(node);
        }
        let negative = self.takes("-");
        let token = self.peek().clone();
        if negative && !matches!(token, Token::Number(_)) {
            return Err(self.wrong("here should be a number"));
        }
        match token {
            Token::Number(number) => self.literal(Node::Number(if negative { -number } else { number })),
            Token::Text(text) => self.literal(Node::Text(text)),
            Token::Word(word) if word == "true" => self.literal(Node::Truth(true)),
            Token::Word(word) if word == "false" => self.literal(Node::Truth(false)),
            Token::Word(word) if word == "has" => {
                self.at += 1;
                self.needs("(")?;
                let field = self.field()?;
                self.needs(")")?;
                Ok(Node::Has(field))
            }
            Token::Word(_) => self.field().map(Node::Field),
            Token::Sign(_) | Token::End => Err(self.wrong("here should be a value")),
        }
    }

    fn literal(&mut self, node: Node) -> Result<Node, BadExpression> {
        self.at += 1;
        Ok(node)
    }

    fn field(&mut self) -> Result<Field, BadExpression> {
        let begin = self.at;
        let of = self.word("a field")?;
        self.needs(".")?;
        let name = self.word("the name of a field")?;
        if (&*of, &*name) == ("request", "headers") {
            self.needs("[")?;
            let Token::Text(header) = self.peek().clone() else { return Err(self.wrong("here should be a text")) };
            self.at += 1;
            self.needs("]")?;
            return Ok(Field::Header(header.to_ascii_lowercase()));
        }
        let party = || PARTIES.iter().find(|(known, _)| *known == name).map(|(_, party)| *party);
        let known = match &*of {
            "source" => party().map(Field::Source),
            "destination" => party().map(Field::Destination),
            _ => FIELDS
                .iter()
                .find(|(first, second, _)| (*first, *second) == (&of, &name))
                .map(|(.., field)| field.clone()),
        };
        known.ok_or_else(|| {
            self.at = begin;
            self.wrong(format!("there is no field {of}.{name}"))
        })
    }
}
