"use strict";
// Draws every chart of the page with the page's own colours, again when they change.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const themed = layout => {
    const found = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("--ink"), size: 12 },
      margin: { l: 56, r: 16, t: 24, b: 56 }, legend: { orientation: "h", y: -0.22 }, hovermode: "closest", ...layout };
    for (const name of Object.keys({ xaxis: 0, yaxis: 0, ...layout })) {
      if (/^[xy]axis/.test(name)) {
        found[name] = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true, ...found[name] };
      }
    }
    return found;
  };
  const draw = () => Promise.all(Object.entries(charts).map(([id, chart]) =>
    Plotly.react(id, chart.data, themed(chart.layout), { responsive: true, displayModeBar: false })));
  dark.addEventListener("change", draw);
  draw().then(() => { document.documentElement.dataset.drawn = String(Math.round(performance.now())); });
})();
