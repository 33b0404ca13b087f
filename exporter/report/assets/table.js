// The table of taps: DataTables over plain arrays, rows made when their page is shown.
const FIGURES = [
  ["strain", "alone / limit"], ["propagated_strain", "added up / limit"],
  ["local", "local error"], ["limit", "local limit"],
  ["propagated", "propagated"], ["propagated_limit", "propagated limit"],
  ["noise", "PyTorch"], ["ratio", "ratio"],
];

async function loadTables() {
  const text = document.getElementById("table-library").textContent;
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  try {
    return (await import(url)).jQuery;
  } finally {
    URL.revokeObjectURL(url);
  }
}

// Cells are made as text nodes, so no name can become markup.
function cell(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}

function middle(text, room) {
  if (text.length <= room) return text;
  const head = Math.floor((room - 1) * 0.4);
  return `${text.slice(0, head)}…${text.slice(text.length - (room - 1 - head))}`;
}

// Both ends of a long name tell it apart; the whole of it is in the hint and in the details.
function shortened(tag, text) {
  const short = middle(text, 56);
  const element = cell(tag, "", short);
  if (short !== text) element.title = text;
  breakNames(element);
  return element;
}

function drawTable($, taps, choose) {
  const words = (key, title, tag) => ({
    title,
    data: null,
    render: (index, type) => (type === "display" ? shortened(tag, taps[key][index]) : taps[key][index]),
  });
  const figures = (key, title) => ({
    title,
    data: null,
    className: "num",
    type: "num",
    render: (index, type) => {
      const value = taps[key][index];
      if (type === "display") return cell("span", "", shown(value));
      if (type === "filter") return "";
      return value === null ? -Infinity : numeric(value);
    },
  });
  const columns = [
    { title: "#", data: null, render: (index) => index, className: "num", type: "num" },
    {
      title: "verdict",
      data: null,
      render: (index, type) => {
        const text = taps.fate[index] === "compared" ? taps.verdict[index] : taps.fate[index];
        if (type !== "display") return text;
        return cell("span", `verdict is-${text.replaceAll(/[^a-z]+/g, "-")}`, text);
      },
    },
    ...FIGURES.slice(0, 2).map((held) => figures(...held)),
    words("layer", "layer", "span"),
    words("op", "op", "code"),
    words("source", "source", "span"),
    ...FIGURES.slice(2).map((held) => figures(...held)),
    words("name", "tap", "code"),
    words("case", "case", "span"),
  ];
  // Verdict and op stand in names too: each choice is compared with its own column alone.
  const choices = new Map();
  let module = "";
  const fits = (index) => {
    for (const [key, value] of choices) if (value && taps[key][index] !== value) return false;
    const layer = taps.layer[index];
    return !module || layer === module || layer.startsWith(`${module}.`);
  };
  const table = $("#taps").DataTable({
    data: taps.name.map((_, i) => i),
    columns,
    deferRender: true,
    autoWidth: false,
    pageLength: 25,
    lengthMenu: [25, 100, 500],
    order: [[0, "asc"]],
    layout: { topStart: "search", topEnd: "pageLength", bottomStart: "info", bottomEnd: "paging" },
    language: { search: "Search", emptyTable: "no tap", zeroRecords: "no tap fits" },
    createdRow: (row, index) => {
      row.tabIndex = 0;
      row.addEventListener("click", () => choose(index, false));
      row.addEventListener("keydown", (event) => {
        if (event.key === "Enter") choose(index, false);
      });
    },
  });
  table.search.fixed("choices", (text, index) => fits(index));

  const note = document.getElementById("module-filter");
  const filterModule = (path) => {
    module = path;
    note.hidden = !path;
    note.querySelector("code").textContent = path;
    table.draw();
  };
  note.querySelector("button").onclick = () => filterModule("");
  for (const key of ["verdict", "op", "fate"]) {
    const select = document.getElementById(`filter-${key}`);
    const values = [...new Set(taps[key])].filter(Boolean).sort();
    select.replaceChildren(new Option("all", ""), ...values.map((v) => new Option(v, v)));
    select.onchange = () => {
      choices.set(key, select.value);
      table.draw();
    };
  }
  return {
    filterModule,
    destroy: () => {
      table.destroy();
      document.getElementById("taps").querySelectorAll("thead, tbody").forEach((e) => e.remove());
    },
    // Bring a row to the screen; filters that hide it are taken off.
    jump(index, focus) {
      const rows = () => table.rows({ order: "applied", search: "applied" }).indexes().toArray();
      let place = rows().indexOf(index);
      if (place < 0) {
        for (const select of document.querySelectorAll("[id^=filter-]")) select.value = "";
        choices.clear();
        table.search("");
        filterModule("");
        place = rows().indexOf(index);
      }
      table.page(Math.floor(place / table.page.len())).draw(false);
      document.querySelectorAll("#taps tr.chosen").forEach((row) => row.classList.remove("chosen"));
      const row = table.row(index).node();
      row.classList.add("chosen");
      if (!focus) {
        // The page stays at its verdict; within its own frame the table shows the row.
        const panel = document.getElementById("table-panel");
        const apart = row.getBoundingClientRect().top - panel.getBoundingClientRect().top;
        panel.scrollTop += apart - panel.clientHeight / 2;
        return;
      }
      row.scrollIntoView({ block: "center" });
      row.focus({ preventScroll: true });
    },
    mark(index) {
      document.querySelectorAll("#taps tr.chosen").forEach((row) => row.classList.remove("chosen"));
      table.row(index).node()?.classList.add("chosen");
    },
  };
}
