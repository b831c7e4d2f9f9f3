"""Plots as inline SVG: heights, texts, and markup in labels."""

import re

from service.dashboard.plots import HEIGHT, Bar, attempt_strip, bar_plot


def heights(svg: str) -> list[float]:
    """Return the heights of the bars."""
    return [float(found) for found in re.findall(r'height="([0-9.]+)"><title>', svg)]


def test_bars_fit_their_highest_value() -> None:
    """The highest bar has the whole height, a gap has no bar, and the limit is above lower bars."""
    svg = str(
        bar_plot(
            [Bar(label="a", parts=[("value", 2.0)]), Bar(label="b"), Bar(label="c", parts=[("value", 1.0)])], text="t"
        )
    )
    assert heights(svg) == [HEIGHT, HEIGHT / 2]
    limited = str(bar_plot([Bar(label="a", parts=[("value", 2.0)])], text="t", limit=4.0))
    assert heights(limited) == [HEIGHT / 2]
    assert 'class="limit"' in limited


def test_empty_plots_are_plots() -> None:
    """Without bars or with zeros nothing fails."""
    assert heights(str(bar_plot([], text="nothing"))) == []
    assert heights(str(bar_plot([Bar(label="a", parts=[("value", 0.0)])], text="zero"))) == []


def test_markup_in_labels_is_text() -> None:
    """A label never ends its element, and no plot has an inline style, which the policy refuses."""
    svg = str(bar_plot([Bar(label="</title><script>", parts=[("value", 1.0)])], text='"><script>'))
    assert "<script>" not in svg
    assert "style=" not in svg


def test_strip_shows_failures_by_height() -> None:
    """The newest attempt is on the right; failures are half as high, so that colour is not needed."""
    svg = str(attempt_strip("++-"))
    assert heights(svg) == [22.0, 22.0, 11.0]
    assert "3 attempts, 1 failed" in svg
    assert "no attempt yet" in str(attempt_strip(""))
