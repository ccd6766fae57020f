//! The page's own files: nothing is loaded from anywhere else.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind)], text).into_response()
}

pub(super) async fn index() -> Response {
    file("text/html; charset=utf-8", include_str!("page/index.html"))
}

pub(super) async fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("page/style.css"))
}

pub(super) async fn app() -> Response {
    file("text/javascript; charset=utf-8", include_str!("page/app.js"))
}

pub(super) async fn charts() -> Response {
    file("text/javascript; charset=utf-8", include_str!("page/charts.js"))
}

pub(super) async fn panels() -> Response {
    file("text/javascript; charset=utf-8", include_str!("page/panels.js"))
}

pub(super) async fn format() -> Response {
    file("text/javascript; charset=utf-8", include_str!("page/format.js"))
}

pub(super) async fn icon() -> Response {
    file("image/svg+xml", include_str!("page/icon.svg"))
}
