"use strict";
// Everything here works on what the file holds; text of a study is only ever set as text, never as markup.
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const say = (text) => { byId("said").textContent = text; };

  // Light and dark -------------------------------------------------------------------------------
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  const remember = {
    // A file that is opened from a disk may have no storage: the choice then holds until it is closed.
    get() { try { return localStorage.getItem("nas-report-theme"); } catch { return null; } },
    set(theme) { try { localStorage.setItem("nas-report-theme", theme); } catch { /* see above */ } },
  };
  const themed = () => {
    byId("theme").setAttribute("aria-pressed", String(isDark()));
    drawAll();
  };
  const chosen = remember.get();
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember.set(root.dataset.theme);
    themed();
  });
  prefersDark.addEventListener("change", themed);

  // Charts ---------------------------------------------------------------------------------------
  let plotly = null;
  const shade = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const coloured = (value, isColour) => {
    if (typeof value === "string") {
      return isColour && value.startsWith("palette:") ? shade(value.slice(8)) : value;
    }
    if (Array.isArray(value)) return value.map((one) => coloured(one, isColour));
    if (value && typeof value === "object") {
      return Object.fromEntries(
        Object.entries(value).map(([key, one]) => [key, coloured(one, isColour || /color/i.test(key))]));
    }
    return value;
  };
  const layoutOf = (chart) => {
    const layout = coloured(chart.layout, false);
    const ink = shade("ink"), faint = shade("line");
    for (const name of new Set([...Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key)), "xaxis", "yaxis"])) {
      const own = layout[name] || {};
      layout[name] = {
        gridcolor: faint, zerolinecolor: faint, linecolor: faint, automargin: true, ticks: "outside",
        tickcolor: faint, ...own, title: { standoff: 10, ...(own.title || {}) },
      };
    }
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", colorway: [],
      height: chart.height, autosize: true, hovermode: "closest",
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      ...layout,
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", ...(layout.legend || {}) },
      margin: { l: 12, r: 12, t: 12, b: 12, ...(layout.margin || {}) },
      font: { family: "system-ui, sans-serif", size: 13, color: ink },
      hoverlabel: {
        bgcolor: shade("card"), bordercolor: shade("grey"), align: "left", namelength: -1,
        font: { color: ink, family: "system-ui, sans-serif", size: 13 },
      },
    };
  };
  const draw = async (chart) => {
    const place = byId(`chart-${chart.key}`);
    await plotly.react(place, coloured(chart.data, false), layoutOf(chart),
      { displayModeBar: false, displaylogo: false, responsive: true, showTips: false });
    place.style.minHeight = "";
    if (place.dataset.drawn) return;
    place.dataset.drawn = "yes";
    place.on("plotly_click", (event) => openTrial(event.points[0].customdata));
    place.on("plotly_hover", (event) => {
      place.classList.toggle("opens", String(event.points[0].customdata) in cards);
    });
    place.on("plotly_unhover", () => place.classList.remove("opens"));
  };
  let drawing = Promise.resolve();
  const drawAll = () => {
    if (!plotly) return;
    drawing = drawing.then(async () => {
      for (const chart of data.charts) {
        await draw(chart);
        await new Promise((resume) => setTimeout(resume));  // clicks and scrolling come first
      }
      root.dataset.charts = "drawn";
    });
  };
  const unpack = async () => {
    const bytes = Uint8Array.from(atob(byId("library").textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    plotly = window.Plotly;
  };
  if (data.charts.length) {
    unpack().then(drawAll).catch(() => {
      for (const place of document.querySelectorAll(".plot")) {
        place.textContent = "This browser is too old to draw this chart; its numbers are in the list below.";
        place.style.minHeight = "";
      }
    });
  } else {
    root.dataset.charts = "drawn";
  }

  // One trial ------------------------------------------------------------------------------------
  const { cards = {}, order = [], labels = [], pool = [] } = data.trials;
  const dialog = byId("trial");
  let shown = null;
  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const networkTable = (lines) => {
    const table = element("table", undefined, "network");
    const head = table.createTHead().insertRow();
    for (const [word, kind] of [["stage"], ["operator"], ["channels"], ["pixels", "wide"],
      ["multiply-adds"], ["parameters", "wide"]]) {
      const cell = element("th", word, kind);
      cell.scope = "col";
      head.append(cell);
    }
    const body = table.createTBody();
    const largest = Math.max(...lines.map((line) => line[6])) || 1;
    for (const [stage, operator, details, layers, channels, resolution, share, percent, params] of lines) {
      const row = body.insertRow();
      const name = element("th", stage);
      name.scope = "row";
      const box = element("div", undefined, "op");
      box.style.setProperty("--part", (share / largest).toFixed(3));
      box.append(element("b", operator), " ", element("span", details));
      if (layers > 1) box.append(element("span", `×${layers}`, "layers"));
      const part = element("div", undefined, "share");
      part.style.setProperty("--part", (share / largest).toFixed(3));
      part.append(element("span", percent));
      row.append(name, element("td"), element("td", channels, "number"),
        element("td", resolution, "wide number"), element("td"), element("td", params, "wide number"));
      row.cells[1].append(box);
      row.cells[4].append(part);
    }
    return table;
  };
  const fill = (number) => {
    const card = cards[number];
    shown = number;
    byId("trial-title").textContent = card.title;
    byId("trial-why").textContent = card.note || "";
    byId("trial-network").replaceChildren(
      ...(card.lines.length ? [networkTable(card.lines.map((place) => pool[place]))] : []));
    byId("trial-facts").replaceChildren(...card.values.flatMap((text, place) => {
      if (text === null) return [];
      const pair = element("div");
      const value = element("dd", text);
      value.dir = "auto";
      pair.append(element("dt", labels[place]), value);
      return [pair];
    }));
    byId("trial-command").textContent = card.command;
    byId("trial-command").closest("figure").hidden = !card.command;
  };
  const openTrial = (number) => {
    if (!(String(number) in cards)) return;
    fill(String(number));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    byId("trial-title").focus();
  };
  document.addEventListener("click", (event) => {
    const target = event.target.closest("button");
    if (target?.dataset.trial !== undefined) openTrial(target.dataset.trial);
    if (target?.classList.contains("copy")) copy(target);
    if (event.target === dialog || target?.dataset.close !== undefined) dialog.close();
    if (target?.dataset.step) step(Number(target.dataset.step));
  });
  const step = (by) => {
    const place = order.indexOf(Number(shown)) + by;
    fill(String(order[(place + order.length) % order.length]));
    say(byId("trial-title").textContent);
  };
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });

  // Copying --------------------------------------------------------------------------------------
  const copy = async (button) => {
    const code = button.closest("figure").querySelector("code");
    let done = false;
    try {
      await navigator.clipboard.writeText(code.textContent);
      done = true;
    } catch {
      getSelection().selectAllChildren(code);
      done = document.execCommand("copy");
    }
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    say(button.textContent);
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };

  // Boxes that scroll, the section that is being read, and printing --------------------------------
  const reachable = () => {
    for (const box of document.querySelectorAll(".scroll, pre")) {
      if (box.offsetParent === null) continue;
      if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  addEventListener("resize", reachable);
  document.addEventListener("toggle", reachable, true);
  reachable();
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) seen[isIntersecting ? "add" : "delete"](target.id);
    const first = [...links.keys()].find((key) => seen.has(key));
    for (const [key, link] of links) {
      if (key === first) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-80px 0px -50% 0px" });
  for (const section of document.querySelectorAll("main > section")) watcher.observe(section);

  themed();
})();
