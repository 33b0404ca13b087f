// Modules as nested <details>, coloured by the worst local error below them.
function heat(strain) {
  if (strain === null) return "";
  return strain > 1 ? "h3" : strain > 0.5 ? "h2" : strain > 0.1 ? "h1" : "h0";
}

function growTree(taps) {
  const top = { path: "", name: "(all)", children: new Map(), strain: null, count: 0, kind: "",
    fails: false };
  taps.layer.forEach((layer, i) => {
    const strain = taps.fate[i] === "compared" ? numeric(taps.strain[i]) : null;
    let node = top;
    const note = (held) => {
      held.count += 1;
      if (strain !== null && (held.strain === null || strain > held.strain)) held.strain = strain;
      // NaN or a change of shape fails without a figure.
      if (taps.alone[i] === "fail") held.strain = Math.max(held.strain ?? 0, 1.0001);
      held.fails ||= taps.verdict[i] === "fail";
    };
    note(top);
    for (const part of layer ? layer.split(".") : []) {
      if (!node.children.has(part)) {
        const path = node.path ? `${node.path}.${part}` : part;
        node.children.set(part, {
          path, name: part, children: new Map(), strain: null, count: 0, kind: "", fails: false,
        });
      }
      node = node.children.get(part);
      note(node);
    }
    node.kind = taps.layer_class[i];
  });
  return top;
}

// A contract names a module of the program; its taps may stand below it only.
function markBroken(top) {
  for (const path of data.broken) {
    let node = top;
    const way = [top];
    for (const part of path ? path.split(".") : []) {
      node = node?.children.get(part);
      if (node) way.push(node);
    }
    if (!node) continue;
    node.contract = true;
    for (const held of way) held.fails = true;
  }
  return top;
}

function drawTree(taps, filterModule) {
  const holder = document.getElementById("tree");
  holder.replaceChildren();
  const row = (node) => {
    const span = document.createElement("span");
    span.className = "row";
    const mark = document.createElement("i");
    mark.className = `heat ${heat(node.strain)}${node.fails ? " fails" : ""}`;
    if (node.contract) mark.className = "heat h3 fails";
    const button = document.createElement("button");
    button.type = "button";
    const kind = node.kind.split(".").at(-1);
    button.textContent = kind ? `${node.name} (${kind})` : node.name;
    breakNames(button);
    const limit = node.strain === null ? "not compared" : `${shown(node.strain)} of the limit`;
    const broken = node.contract ? "; a contract fails here" : "";
    button.title = `${node.path || "all"}: ${limit}, ${node.count} taps${broken}`;
    button.addEventListener("click", (event) => {
      event.preventDefault();
      filterModule(node.path);
    });
    span.append(mark, button);
    return span;
  };
  const render = (node, open) => {
    if (node.children.size === 0) {
      const leaf = document.createElement("div");
      leaf.className = "leaf";
      leaf.append(row(node));
      return leaf;
    }
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.append(row(node));
    details.append(summary);
    let filled = false;
    // Children are made when they are first seen: a deep model has thousands.
    const fill = () => {
      if (filled) return;
      filled = true;
      for (const child of node.children.values()) {
        details.append(render(child, child.fails));
      }
    };
    details.addEventListener("toggle", () => details.open && fill());
    if (open) {
      fill();
      details.open = true;
    }
    return details;
  };
  holder.append(render(markBroken(growTree(taps)), true));
  const worst = [...holder.querySelectorAll(".fails")].at(-1);
  if (worst) holder.scrollTop = worst.offsetTop - holder.offsetTop - holder.clientHeight / 2;
}
