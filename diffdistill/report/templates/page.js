// The slider shows each run's last grid at or before its step.
for (const gallery of document.querySelectorAll(".gallery")) {
  const slider = gallery.querySelector("input");
  if (!slider) continue;
  const steps = JSON.parse(gallery.dataset.steps);
  const show = () => {
    const step = steps[slider.value];
    const labels = new Set();
    for (const figure of gallery.querySelectorAll("figure")) {
      const images = [...figure.querySelectorAll("img")];
      const before = images.filter((image) => Number(image.dataset.step) <= step);
      const shown = before.length ? before[before.length - 1] : images[0];
      for (const image of images) image.hidden = image !== shown;
      labels.add(shown.dataset.label);
    }
    const label = labels.size === 1 ? [...labels][0] : "step " + step.toLocaleString("en");
    gallery.querySelector(".slider output").textContent = label;
    slider.setAttribute("aria-valuetext", label);
  };
  slider.addEventListener("input", show);
  show();
}

// The read-out of a chart: what its lines say at the step under the pointer.
for (const chart of document.querySelectorAll("svg.chart")) {
  const data = JSON.parse(chart.dataset.chart);
  const cursor = chart.querySelector(".cursor");
  const output = chart.closest("figure").querySelector("output");
  const nearest = (steps, step) =>
    steps.reduce((best, each, i) => (Math.abs(each - step) < Math.abs(steps[best] - step) ? i : best), 0);
  const leave = () => {
    cursor.setAttribute("visibility", "hidden");
    output.textContent = "";
  };
  chart.addEventListener("pointermove", (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
    const part = Math.min(1, Math.max(0, (point.x - data.left) / (data.right - data.left)));
    const step = data.first + part * (data.last - data.first);
    const lines = data.lines.filter((line) => line.steps.length);
    if (!lines.length) return;
    const at = lines[0].steps[nearest(lines[0].steps, step)];
    const x = data.left + ((data.right - data.left) * (at - data.first)) / (data.last - data.first);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.setAttribute("visibility", "visible");
    const values = lines.map((line) => {
      const value = String(line.values[nearest(line.steps, at)]) + (data.unit ? " " + data.unit : "");
      return lines.length > 1 ? line.name + " " + value : value;
    });
    output.textContent = "step " + at.toLocaleString("en") + ": " + values.join(", ");
  });
  chart.addEventListener("pointerleave", leave);
}
