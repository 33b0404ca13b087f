// The two plots of a lowered file, in the colours of the page.
const plots = JSON.parse(document.getElementById("data").textContent);
startPage();
Promise.all(plots.map((plot) => Bokeh.embed.embed_item(plot))).then(
  () => {
    const paint = () => {
      for (const view of Bokeh.index) if (view.model.type === "Figure") dress(view.model);
    };
    onTheme.push(paint);
    paint();
    root.setAttribute("data-ready", "yes");
  },
  (error) => {
    console.error(error);
    root.setAttribute("data-ready", "failed");
  },
);
