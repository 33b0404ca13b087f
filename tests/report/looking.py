"""What an eye would complain about on a page, measured by the browser and in its print.

Contrast: text against what is painted behind it, at least 4.5, and 3 where it is large (WCAG 2.1,
1.4.3). Text on a canvas is not seen.
"""

from __future__ import annotations

import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from playwright.sync_api import Page

# Places of words: of a text node, cut to what its frames that scroll let through.
_SCRIPT = r"""
(printed) => {
  const found = { broken: [], outside: [], cut: [], over: [], faint: [] };
  const shown = (held) => held.checkVisibility({ visibilityProperty: true, opacityProperty: true })
    && !held.closest(".skip, script, style, .bk-Tooltip");
  const width = document.documentElement.clientWidth;

  // Colours: [red, green, blue, alpha], each from 0 to 1.
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (text) => {
    probe.clearRect(0, 0, 1, 1);
    probe.fillStyle = "#000";
    probe.fillStyle = text;
    probe.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = probe.getImageData(0, 0, 1, 1).data;
    return [r / 255, g / 255, b / 255, a / 255];
  };
  const over = (front, back) =>
    [0, 1, 2].map((i) => front[3] * front[i] + (1 - front[3]) * back[i]);
  const bright = (colour) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => sum + weight
    * (colour[i] <= 0.04045 ? colour[i] / 12.92 : ((colour[i] + 0.055) / 1.055) ** 2.4), 0);
  const canvas = document.createElement("div");
  canvas.style.background = "Canvas";
  document.body.append(canvas);
  const sheet = rgba(getComputedStyle(canvas).backgroundColor).slice(0, 3);
  canvas.remove();
  const behind = (held) => {
    const layers = [];
    for (let node = held; node; node = node.parentElement ?? node.getRootNode().host) {
      const style = getComputedStyle(node);
      const inset = style.boxShadow.match(/^(rgba?\([^)]*\)|color\([^)]*\)).*9999px inset/);
      if (inset) layers.push(rgba(inset[1]));
      layers.push(rgba(style.backgroundColor));
    }
    return layers.reverse().reduce((back, front) => over(front, back), sheet);
  };

  const clipped = (held, box) => {
    let [left, top, right, bottom] = [box.left, box.top, box.right, box.bottom];
    for (let node = held; node && node !== document.body; node = node.parentElement) {
      const style = getComputedStyle(node);
      if (style.overflowX === "visible" && style.overflowY === "visible") continue;
      const frame = node.getBoundingClientRect();
      [left, top] = [Math.max(left, frame.left), Math.max(top, frame.top)];
      [right, bottom] = [Math.min(right, frame.right), Math.min(bottom, frame.bottom)];
    }
    return right - left > 1 && bottom - top > 1 ? { left, top, right, bottom } : null;
  };
  const scrolls = (held) => {
    for (let node = held; node && node !== document.body; node = node.parentElement) {
      if (["auto", "scroll"].includes(getComputedStyle(node).overflowX)) return true;
    }
    return false;
  };
  const sticky = (held) => {
    for (let node = held; node; node = node.parentElement) {
      if (getComputedStyle(node).position === "sticky") return true;
    }
    return false;
  };

  // Words as people read them, and figures; longer ones are digests and made-up names.
  const WORDS = /(?<![\p{L}\d])(?:\p{L}{3,24}|\d+\.?\d*(?:e[+-]?\d+)?)(?![\p{L}\d])/gu;
  const lines = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const held = node.parentElement;
    const text = node.textContent;
    if (!text.trim() || !held || !shown(held)) continue;
    const range = document.createRange();
    for (const word of text.matchAll(WORDS)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const boxes = [...range.getClientRects()].filter((box) => box.width > 0.5);
      if (boxes.some((box) => box.top > boxes[0].top + boxes[0].height / 2)) {
        found.broken.push(`${word[0]} in: ${text.trim().slice(0, 80)}`);
      }
    }
    range.selectNodeContents(node);
    const boxes = [...range.getClientRects()].filter((box) => box.width > 1 && box.height > 1);
    const free = !printed && scrolls(held);
    for (const box of boxes) {
      if (!free && (box.left < -0.5 || box.right > width + 1)) {
        found.outside.push(`${text.trim().slice(0, 80)} at ${box.left} to ${box.right}`);
      }
      const seen = clipped(held, box);
      if (seen && !sticky(held)) lines.push({ ...seen, text: text.trim().slice(0, 60) });
    }
    if (boxes.length && !printed && !held.closest("[aria-disabled=true], :disabled")) {
      const style = getComputedStyle(held);
      const back = behind(held);
      const pair = [bright(back), bright(over(rgba(style.color), back))].sort((a, b) => b - a);
      const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (contrast < (large ? 3 : 4.5)) {
        found.faint.push(`${contrast.toFixed(2)}: ${style.color} on ${back.map((v) =>
          Math.round(255 * v))}: ${text.trim().slice(0, 60)}`);
      }
    }
  }
  for (const held of document.body.querySelectorAll("*")) {
    if (!shown(held) || held.closest("svg, .bk-Figure, .bk-Canvas, select")) continue;
    const style = getComputedStyle(held);
    const hides = (name) => (printed ? ["hidden", "clip", "auto", "scroll"] : ["hidden", "clip"])
      .includes(style[name]);
    if ((hides("overflowX") && held.scrollWidth > held.clientWidth + 1)
        || (hides("overflowY") && held.scrollHeight > held.clientHeight + 1)) {
      if (held.innerText?.trim()) found.cut.push(`<${held.tagName.toLowerCase()} id="${held.id}"`
        + ` class="${held.className}"> ${held.innerText.trim().slice(0, 60)}`);
    }
  }
  // A legend is painted; its place is known.
  for (const view of globalThis.Bokeh?.index ?? []) {
    for (const legend of (view.model.above ?? []).filter((held) => held.type === "Legend")) {
      const box = Bokeh.index.find_one(legend)?.bbox;
      if (!box || box.left < -1 || box.right > view.bbox.width + 1) {
        found.cut.push(`legend ${legend.items.map((item) => item.label?.value)}: ${box?.left} to`
          + ` ${box?.right} of ${view.bbox.width}`);
      }
    }
  }
  lines.sort((a, b) => a.top - b.top);
  lines.forEach((one, i) => {
    for (let j = i + 1; j < lines.length && lines[j].top < one.bottom; j += 1) {
      const other = lines[j];
      const across = Math.min(one.right, other.right) - Math.max(one.left, other.left);
      const down = Math.min(one.bottom, other.bottom) - other.top;
      const least = Math.min(one.bottom - one.top, other.bottom - other.top);
      if (across > 2 && down > 0.4 * least) found.over.push(`${one.text} | ${other.text}`);
    }
  });
  return found;
}
"""
# Whether a text can be read in the window as it opens.
_FIRST_SCREEN = """
(wanted) => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!node.textContent.toLowerCase().includes(wanted.toLowerCase())) continue;
    if (!node.parentElement?.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    if (box.width > 0 && box.left >= 0 && box.top >= 0 && box.right <= innerWidth
        && box.bottom <= innerHeight) return true;
  }
  return false;
}
"""
_KINDS = {
    "broken": "words broken inside",
    "outside": "text beyond the edge of the page",
    "cut": "text cut off by its frame",
    "over": "texts over one another",
    "faint": "text too faint to read",
}


def complaints(page: Page, *, printed: bool = False) -> list[str]:
    """What is ugly on a page as it stands: kinds with their first examples; [] is good."""
    found: dict[str, list[str]] = page.evaluate(_SCRIPT, printed)
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    said = [f"the page scrolls sideways by {wide} pixels"] if wide > 0 and not printed else []
    return said + [
        f"{len(found[kind])} x {words}: {found[kind][:6]}"
        for kind, words in _KINDS.items()
        if found[kind]
    ]


def on_the_first_screen(page: Page, text: str) -> bool:
    return page.evaluate(_FIRST_SCREEN, text)


def words_of_print(pdf: Path) -> list[list[dict[str, Any]]]:
    """By page of a PDF: its words with the edges of their boxes and of the page, in points."""
    text = subprocess.run(
        ["pdftotext", "-bbox", str(pdf), "-"], capture_output=True, text=True, check=True
    ).stdout
    space = "{http://www.w3.org/1999/xhtml}"
    # A character that XML does not know comes from a hostile name.
    root = ElementTree.fromstring(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "", text))
    pages = []
    for page in root.iter(f"{space}page"):
        edges = {key: float(page.get(key, "nan")) for key in ("width", "height")}
        pages.append(
            [
                {"text": word.text or "", "page": edges}
                | {key: float(word.get(key, "nan")) for key in ("xMin", "xMax", "yMin", "yMax")}
                for word in page.iter(f"{space}word")
            ]
        )
    return pages


def complaints_of_print(pages: list[list[dict[str, Any]]], wanted: set[str]) -> list[str]:
    """What is wrong with a print: words that are not on paper, beyond its edge, over each other."""
    words = [word for page in pages for word in page]
    beyond = [
        word["text"]
        for word in words
        if word["xMin"] < 0 or word["xMax"] > word["page"]["width"] + 0.5
    ]
    printed = " ".join(word["text"] for word in words)
    lost = sorted(word for word in wanted if word not in printed)
    over = [
        f"{one['text']} | {other['text']}"
        for page in pages
        for one, other in combinations(page, 2)
        if one["text"] != other["text"]  # a canvas may paint a word twice in its place
        and min(one["xMax"], other["xMax"]) - max(one["xMin"], other["xMin"]) > 1.5
        and min(one["yMax"], other["yMax"]) - max(one["yMin"], other["yMin"])
        > 0.4 * min(one["yMax"] - one["yMin"], other["yMax"] - other["yMin"])
    ]
    kinds = {"beyond the edge": beyond, "not on paper": lost, "over one another": over}
    return [f"{len(held)} x {kind}: {held[:8]}" for kind, held in kinds.items() if held]
