"""Look and behaviour of the report: its style sheet and its script."""

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1d2530;
  --muted: #5b6675; --line: #dde2e9; --accent: #2f6db3; --good: #1c7a4a; --good-back: #e3f4ea;
  --look: #9a5200; --look-back: #fdefd9; --none: #5b6675; --none-back: #edf0f4; }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --card: #1a2029; --ink: #e6eaf0;
  --muted: #9aa6b5; --line: #2e3744; --accent: #7db3ee; --good: #7fd6a4; --good-back: #173526;
  --look: #f2bd77; --look-back: #3d2b12; --none: #9aa6b5; --none-back: #262e39; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 3.5rem; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main, header > div, footer { max-width: 70rem; margin: 0 auto; padding: 0 1.1rem; }
header { background: var(--card); border-bottom: 1px solid var(--line); padding: 2.2rem 0 1.4rem; }
.eyebrow { margin: 0; color: var(--accent); font-size: .8rem; font-weight: 650;
  letter-spacing: .08em; text-transform: uppercase; }
h1 { font-size: clamp(1.6rem, 4vw, 2.3rem); line-height: 1.2; margin: .2rem 0 0;
  overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 0 0 .4rem; }
h3 { font-size: 1rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.lede { font-size: 1.08rem; margin-top: .6rem; }
.lede p { margin: .2rem 0; max-width: 48rem; }
nav { position: sticky; top: 0; z-index: 5; background: var(--card);
  border-bottom: 1px solid var(--line); }
nav ul { display: flex; gap: .2rem; list-style: none; max-width: 70rem; margin: 0 auto;
  padding: .35rem .7rem; overflow-x: auto; }
nav a { display: block; padding: .3rem .6rem; border-radius: .4rem; color: var(--ink);
  text-decoration: none; white-space: nowrap; font-size: .92rem; }
nav a:hover { background: var(--page); }
a:focus-visible, summary:focus-visible, [tabindex]:focus-visible { outline: 3px solid var(--accent);
  outline-offset: 2px; border-radius: .3rem; }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: .5rem; z-index: 9; background: var(--card); padding: .5rem 1rem; }
section { margin: 2.4rem 0; }
.note, .intro { color: var(--muted); max-width: 48rem; margin: 0 0 1rem; }
.note { font-size: .88rem; margin: .8rem 0 0; }
.card, .verdict { background: var(--card); border: 1px solid var(--line); border-radius: .7rem;
  padding: 1rem 1.1rem; }
.grid { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }
.verdict { display: flex; flex-direction: column; gap: .25rem; }
.verdict h3 { color: var(--muted); font-weight: 550; font-size: .92rem; margin: 0; }
.verdict .value { font-size: 1.55rem; font-weight: 650; line-height: 1.2; }
.verdict p { margin: .15rem 0 0; font-size: .93rem; }
.chip { align-self: flex-start; font-size: .78rem; font-weight: 650; border-radius: 1rem;
  padding: .12rem .65rem; }
.good { color: var(--good); background: var(--good-back); }
.look { color: var(--look); background: var(--look-back); }
.unknown { color: var(--none); background: var(--none-back); }
.tally .chip { font-size: .88rem; margin-right: .35rem; display: inline-block; }
.picture { width: 100%; }
details { margin-top: .8rem; }
summary { cursor: pointer; color: var(--accent); font-weight: 550; padding: .2rem 0; }
.wide { overflow-x: auto; margin-top: .5rem; }
table { border-collapse: collapse; font-size: .9rem; min-width: 100%; }
th, td { text-align: left; padding: .4rem .7rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td:first-child { min-width: 7.5rem; }
th { color: var(--muted); font-weight: 600; font-size: .82rem; vertical-align: bottom; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td strong { color: var(--good); }
.best { font-size: .72rem; font-weight: 550; }
.codes { color: var(--muted); font-size: .85rem; font-variant-numeric: tabular-nums; }
.pair { display: grid; gap: 1rem; grid-template-columns: 1fr 1fr; }
.pair h4 { margin: .5rem 0 .2rem; font-size: .85rem; color: var(--muted); font-weight: 600; }
ol, .titles { margin: 0; padding-left: 1.2rem; font-size: .93rem; }
li { overflow-wrap: anywhere; }
.both { font-weight: 650; }
.examples { grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); }
footer { color: var(--muted); font-size: .88rem; padding-bottom: 2.5rem; }
noscript p { background: var(--look-back); color: var(--look); padding: .6rem 1rem;
  border-radius: .5rem; }
@media (max-width: 34rem) { section { margin: 1.8rem 0; } .card { padding: .8rem .7rem; }
  .pair { grid-template-columns: 1fr; gap: .3rem; } header { padding-top: 1.4rem; } }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
@media print { nav, .skip { display: none; } .card, .verdict { break-inside: avoid; } }
"""

SCRIPT = """
(() => {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  // A finger that drags over a picture scrolls the page.
  const finger = window.matchMedia("(pointer: coarse)").matches;
  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const clear = "rgba(0, 0, 0, 0)";
  const buttons = [["zoom2d", "pan2d", "resetScale2d", "toImage"]];
  for (const [id, figure] of Object.entries(figures)) {
    const layout = figure.layout;
    layout.paper_bgcolor = layout.plot_bgcolor = clear;
    layout.font = { size: 13, color: colour("--ink"),
      family: getComputedStyle(document.body).fontFamily };
    layout.modebar = { bgcolor: clear, color: "#8894a3", activecolor: "#4c86c6" };
    if (finger) layout.dragmode = false;
    // Rings are as high as they are wide.
    if (id === "tree") layout.height = Math.min(560, document.getElementById(id).clientWidth);
    Plotly.newPlot(id, figure.data, layout, { responsive: true, displaylogo: false,
      modeBarButtons: buttons, displayModeBar: id === "map" && !finger });
  }
  dark.addEventListener("change", () => {
    for (const id of Object.keys(figures)) {
      Plotly.relayout(id, { "font.color": colour("--ink") });
    }
  });
})();
"""
