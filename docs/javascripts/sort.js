// Tables are sorted by a column at a click on its heading; a second click turns the order round.
document.addEventListener("click", (event) => {
  const heading = event.target.closest("article table thead th");
  if (!heading) return;
  const table = heading.closest("table");
  const column = [...heading.parentNode.children].indexOf(heading);
  const number = (row) => parseFloat(row.cells[column].innerText.replace("−", "-"));
  const turned = heading.dataset.order === "falling";
  const rows = [...table.tBodies[0].rows].sort((one, two) => {
    const difference = number(two) - number(one);
    return Number.isNaN(difference) ? one.cells[column].innerText.localeCompare(two.cells[column].innerText) : difference;
  });
  heading.dataset.order = turned ? "rising" : "falling";
  table.tBodies[0].append(...(turned ? rows.reverse() : rows));
});
