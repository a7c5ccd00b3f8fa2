//! What people look at: heatmaps as pictures, tables as text.
//!
//! Nothing here knows a graph or a model: a heatmap is drawn from a picture and a tensor.

mod colour;
mod font;
pub mod heatmap;
pub mod table;

pub use colour::diverging;
pub use heatmap::{HeatmapError, HeatmapOptions, Scale, png_bytes, render_heatmap, write_png};
pub use table::{Align, Table};
