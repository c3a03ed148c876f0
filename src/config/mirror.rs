//! Sections that are, field by field, the settings of another crate. That crate says what they mean and what holds when
//! nothing is set; here they stand once, with times and sizes as people write them.

/// A section with some or all of the fields of other settings, and their defaults. What it leaves out keeps its default.
macro_rules! mirror {
    (
        $(#[$of_section:meta])*
        pub struct $section:ident of $settings:path {
            $($(#[$of_field:meta])* $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$of_section])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[allow(missing_docs, reason = "documented where the settings are")]
        pub struct $section {
            $($(#[$of_field])* pub $field: $type,)*
        }

        impl Default for $section {
            fn default() -> Self {
                let settings = <$settings>::default();
                Self { $($field: settings.$field.into(),)* }
            }
        }

        #[allow(clippy::needless_update, reason = "some sections leave nothing out")]
        impl From<$section> for $settings {
            fn from(section: $section) -> Self {
                Self { $($field: section.$field.into(),)* ..Self::default() }
            }
        }
    };
}

pub(super) use mirror;
