// Filtering: without this script the whole table is there.
{
  const form = document.querySelector(".filters");
  const table = document.querySelector("#board table");
  const columns = [...form.querySelectorAll("[data-column]")];
  const kinds = [...new Set(columns.map((one) => one.dataset.kind))];
  for (const kind of kinds) form.elements.kind.append(new Option(kind, kind));
  const apply = () => {
    const words = form.elements.models.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of table.tBodies[0].rows) {
      const name = row.cells[0].textContent.toLowerCase();
      const ranked = [...row.querySelectorAll(".note")].some((note) => /^rank \d/.test(note.textContent));
      const shown = words.every((word) => name.includes(word)) && (ranked || !form.elements.ranked.checked);
      row.classList.toggle("gone", !shown);
    }
    for (const one of columns) {
      const hide = form.elements.kind.value !== "" && form.elements.kind.value !== one.dataset.kind;
      for (const row of table.rows) row.cells[Number(one.dataset.column)].classList.toggle("gone", hide);
    }
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
}
