// Filtering: without this script the whole table is shown.
{
  const form = document.querySelector(".filters");
  const table = document.querySelector("#board table");
  const columns = [...form.querySelectorAll("[data-column]")];
  const kinds = [...new Set(columns.map((column) => column.dataset.kind))];
  for (const kind of kinds) form.elements.kind.append(new Option(kind, kind));
  const apply = () => {
    const terms = form.elements.models.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of table.tBodies[0].rows) {
      const name = row.cells[0].textContent.toLowerCase();
      const ranked = [...row.querySelectorAll(".note")].some((note) => /^rank \d/.test(note.textContent));
      const shown = terms.every((term) => name.includes(term)) && (ranked || !form.elements.ranked.checked);
      row.classList.toggle("gone", !shown);
    }
    for (const {dataset} of columns) {
      const hide = form.elements.kind.value !== "" && form.elements.kind.value !== dataset.kind;
      for (const row of table.rows) row.cells[Number(dataset.column)].classList.toggle("gone", hide);
    }
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
}
