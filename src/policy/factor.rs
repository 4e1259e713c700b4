//! Ways to prove who one is: which category each is of (knowledge, possession, inherence), how strong it is and what it is
//! called in `amr` (RFC 8176).

use std::fmt;

/// A way to prove who one is, shown to the gateway's own authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Factor {
    /// A password of an account that the authority keeps.
    Password,
    /// A passkey or security key (WebAuthn).
    Passkey,
    /// A code of an authenticator app (RFC 6238).
    Totp,
    /// A code that was sent by e-mail.
    Email,
    /// A code that was sent through a webhook, by SMS say.
    Webhook,
    /// An approval on another device.
    Push,
    /// One of the codes that were kept for the day when all else is lost.
    Recovery,
}

/// What a factor rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Category {
    /// Something one knows.
    Knowledge,
    /// Something one has.
    Possession,
    /// Something one is.
    Inherence,
}

impl Category {
    /// Every category.
    pub const ALL: [Self; 3] = [Self::Knowledge, Self::Possession, Self::Inherence];

    /// Its name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Knowledge => "knowledge",
            Self::Possession => "possession",
            Self::Inherence => "inherence",
        }
    }
}

/// How hard a factor is to steal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// It can be guessed, or read by whoever reads the mail or the phone's messages.
    Weak,
    /// It can be asked for by a page that looks like ours.
    Moderate,
    /// It answers to our origin alone.
    PhishingResistant,
}

impl Factor {
    /// Every factor.
    pub const ALL: [Self; 7] =
        [Self::Password, Self::Passkey, Self::Totp, Self::Email, Self::Webhook, Self::Push, Self::Recovery];

    /// Its name in the configuration, the API, metrics and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Passkey => "passkey",
            Self::Totp => "totp",
            Self::Email => "email",
            Self::Webhook => "webhook",
            Self::Push => "push",
            Self::Recovery => "recovery",
        }
    }

    /// The factor of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|factor| factor.name() == name)
    }

    /// What it rests on by itself.
    pub const fn category(self) -> Category {
        match self {
            Self::Password => Category::Knowledge,
            Self::Passkey | Self::Totp | Self::Email | Self::Webhook | Self::Push | Self::Recovery => {
                Category::Possession
            }
        }
    }

    /// How hard it is to steal.
    pub const fn strength(self) -> Strength {
        match self {
            Self::Password | Self::Email | Self::Webhook => Strength::Weak,
            Self::Totp | Self::Push | Self::Recovery => Strength::Moderate,
            Self::Passkey => Strength::PhishingResistant,
        }
    }

    /// What it is called in `amr` (RFC 8176 §2); `None`: the registry has no name for it.
    pub const fn amr(self) -> Option<&'static str> {
        match self {
            Self::Password => Some("pwd"),
            Self::Passkey => Some("pop"),
            Self::Totp | Self::Email | Self::Recovery => Some("otp"),
            Self::Webhook => Some("sms"),
            Self::Push => Some("mca"),
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of factors.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Factors(u8);

impl Factors {
    /// No factor.
    pub const NONE: Self = Self(0);

    /// Whether it is one of these.
    pub const fn contains(self, factor: Factor) -> bool {
        self.0 & factor.bit() != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These and another one.
    #[must_use]
    pub const fn with(self, factor: Factor) -> Self {
        Self(self.0 | factor.bit())
    }

    /// These and those.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Each of them, in the order of [`Factor::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Factor> {
        Factor::ALL.into_iter().filter(move |factor| self.contains(*factor))
    }
}

impl FromIterator<Factor> for Factors {
    fn from_iter<I: IntoIterator<Item = Factor>>(factors: I) -> Self {
        factors.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Factors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A set of categories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Categories(u8);

impl Categories {
    /// No category.
    pub const NONE: Self = Self(0);

    /// These and another one.
    #[must_use]
    pub const fn with(self, category: Category) -> Self {
        Self(self.0 | 1 << category as u8)
    }

    /// These and those.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it is one of these.
    pub const fn contains(self, category: Category) -> bool {
        self.0 & 1 << category as u8 != 0
    }

    /// How many there are.
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }
}

impl FromIterator<Category> for Categories {
    fn from_iter<I: IntoIterator<Item = Category>>(categories: I) -> Self {
        categories.into_iter().fold(Self::NONE, Self::with)
    }
}

/// Which factors a level takes. Every part that is given must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FactorRule {
    /// One of these must have been shown.
    pub any_of: Option<Factors>,
    /// One that answers to our origin alone must have been shown.
    pub phishing_resistant: bool,
    /// So many distinct categories must have been shown, the first factor's included.
    pub categories: u8,
}
