//! What people look at: heatmaps as pictures, tokens on a terminal and in HTML, tables as text.
//!
//! Nothing here knows a graph or a model: a heatmap is drawn from a picture and a tensor, tokens from an [`Explanation`].

mod colour;
pub mod explanation;
mod font;
pub mod heatmap;
pub mod html;
pub mod table;
pub mod terminal;

pub use colour::diverging;
pub use explanation::Explanation;
pub use heatmap::{HeatmapError, HeatmapOptions, Scale, png_bytes, render_heatmap, write_png};
pub use html::html_page;
pub use table::{Align, LINE, Table, wrap};
pub use terminal::{Colours, terminal_text};
