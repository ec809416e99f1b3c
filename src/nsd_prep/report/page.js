// Values under the pointer, and long tables opened for the printer. The page reads without it.
"use strict";
{
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const number = (value) => String(value).replace("-", "\u2212");

  function valueAt(matrix, row, column) {
    if (matrix.values) return matrix.values[row][column];
    if (row === column) return 0;
    matrix.pairs ??= bytes(matrix.bytes);
    const n = matrix.rows.length;
    const [i, j] = row < column ? [row, column] : [column, row];
    const step = matrix.pairs[i * (n - 1) - (i * (i - 1)) / 2 + j - i - 1];
    return (matrix.low + (step / 255) * (matrix.high - matrix.low)).toFixed(2);
  }

  function cellAt(matrices, x, y) {
    for (const matrix of matrices) {
      const [left, top, width, height] = matrix.box;
      const columns = matrix.columns ?? matrix.rows;
      const column = Math.floor(((x - left) / width) * columns.length);
      const row = Math.floor(((y - top) / height) * matrix.rows.length);
      if (row < 0 || column < 0 || row >= matrix.rows.length || column >= columns.length) continue;
      const value = valueAt(matrix, row, column);
      if (value === null) return null;
      return `${matrix.rows[row]}, ${columns[column]}: ${number(value)}`;
    }
    return null;
  }

  for (const data of document.querySelectorAll("script.cells")) {
    const matrices = JSON.parse(data.textContent);
    const image = data.parentElement.querySelector("img");
    image.addEventListener("pointermove", (event) => {
      const box = image.getBoundingClientRect();
      const text = cellAt(
        matrices,
        (event.clientX - box.left) / box.width,
        (event.clientY - box.top) / box.height,
      );
      tip.hidden = text === null;
      if (text === null) return;
      tip.textContent = text;
      const right = event.clientX + 14 + tip.offsetWidth > document.documentElement.clientWidth;
      tip.style.left = `${event.clientX + (right ? -14 - tip.offsetWidth : 14)}px`;
      tip.style.top = `${event.clientY + 14}px`;
    });
    image.addEventListener("pointerleave", () => { tip.hidden = true; });
  }

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details.rows:not([open])")];
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of closed) details.open = false;
  });
}
