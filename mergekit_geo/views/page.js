"use strict";
// Draws every chart of the page with the page's own colours and to its width, again when they change.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 600px)");
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = (found, more) => ({ gridcolor: colour("--line"), zerolinecolor: colour("--line"), ...more, ...found,
    title: { standoff: 10, ...found?.title } });
  const below = { orientation: "h", x: 0.5, y: 0, yanchor: "top", len: 1, thickness: 12, nticks: 5 };

  // Colours of paper, ink and grid.
  const themed = layout => {
    const found = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("--ink"), size: 12 },
      margin: { l: 48, r: 12, t: layout.title ? 36 : 12, b: 40 }, legend: { orientation: "h", y: -0.2 },
      hovermode: "closest", ...layout };
    for (const name of Object.keys({ xaxis: 0, yaxis: 0, ...layout })) {
      if (/^[xy]axis/.test(name)) found[name] = axis(found[name], { automargin: true });
    }
    return found;
  };

  // A plane on a phone: as high as it is broad there, with its colours below.
  const plane = (place, chart, layout) => {
    const height = Math.round(place.clientWidth * chart.aspect + 190);
    const bar = { ...below, y: -0.2, title: { ...chart.data[0].colorbar.title, side: "bottom" } };
    return [{ ...layout, height, margin: { ...layout.margin, b: 110 } }, bar];
  };

  // A title in two lines.
  const folded = title => {
    const words = title.split(" "), half = Math.ceil(words.length / 2);
    return words.length < 4 ? title : `${words.slice(0, half).join(" ")}<br>${words.slice(half).join(" ")}`;
  };

  // Three dimensions: axes in the page's colours; on a phone higher than broad, seen from further away, with titles in two lines.
  const space = (place, chart, layout) => {
    const height = narrow.matches ? Math.round(place.clientWidth * 1.15) : layout.height;
    const scene = { ...layout.scene, domain: { x: [0, 1], y: [narrow.matches ? 0.14 : 0, 1] } };
    const away = narrow.matches ? 1.12 : 1;
    for (const name of ["xaxis", "yaxis", "zaxis"]) {
      scene[name] = axis(scene[name], { backgroundcolor: colour("--card"), showbackground: true });
      if (narrow.matches) scene[name] = { ...scene[name], nticks: 4, tickfont: { size: 9 },
        title: { text: folded(scene[name].title.text), font: { size: 10 } } };
    }
    const eye = Object.fromEntries(Object.entries(scene.camera.eye).map(([key, value]) => [key, value * away]));
    return [{ ...layout, height, scene: { ...scene, camera: { ...scene.camera, eye } } },
      { ...below, y: -0.02, yanchor: "bottom", tickangle: 0, tickfont: { size: 10 }, title: { ...chart.data[0].colorbar.title, side: "top" } }];
  };

  // About five of the numbers beside colours.
  const sparse = bar => {
    const every = Math.ceil(bar.tickvals.length / 5), kept = (_, i) => i % every === 0;
    return { ...bar, tickvals: bar.tickvals.filter(kept), ticktext: bar.ticktext.filter(kept) };
  };

  const fitted = (place, chart) => {
    const layout = themed(chart.layout);
    if (!layout.scene && !(narrow.matches && chart.aspect)) return [chart.data, layout];
    const [fit, bar] = (layout.scene ? space : plane)(place, chart, layout);
    place.style.height = `${fit.height}px`;
    const [first, ...rest] = chart.data;
    return [narrow.matches ? [{ ...first, colorbar: { ...sparse(first.colorbar), ...bar } }, ...rest] : chart.data, fit];
  };
  // Charts that can be seen: what is folded has no width, and is drawn when it is opened.
  const draw = (within = document) => Promise.all(Object.entries(charts)
    .map(([id, chart]) => [document.getElementById(id), chart])
    .filter(([place]) => within.contains(place) && !place.closest("details:not([open])"))
    .map(([place, chart]) => Plotly.react(place, ...fitted(place, chart), { responsive: true, displayModeBar: false })));
  dark.addEventListener("change", () => draw());
  narrow.addEventListener("change", () => draw());
  for (const folded of document.querySelectorAll("details")) folded.addEventListener("toggle", () => draw(folded));
  draw().then(() => { document.documentElement.dataset.drawn = String(Math.round(performance.now())); });
})();
