// Search where the pages are read from the disk: there a browser lets no page start a worker or
// fetch the index, which MkDocs' own search needs.  The hook of the build writes the index as a
// script too.
"use strict";
if (location.protocol === "file:") addEventListener("load", () => {
  const input = document.getElementById("mkdocs-search-query");
  if (!input) return;
  const load = (path) => new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = joinUrl(base_url, path);
    script.onload = done;
    script.onerror = failed;
    document.head.append(script);
  });
  let made;
  const start = async () => {
    await load("search/lunr.js");
    await load("search/search_index.js");
    const documents = new Map(agebenchSearchIndex.docs.map((item) => [item.location, item]));
    const index = lunr(function () {
      this.field("title", {boost: 10});
      this.field("text");
      this.ref("location");
      documents.forEach((item) => this.add(item));
    });
    return {documents, index};
  };
  input.addEventListener("keyup", async () => {
    const words = input.value.trim();
    if (words.length < 3) return displayResults([]);
    const {documents, index} = await (made ??= start());
    const found = index.search(words.replace(/[:~^+*-]/g, " ")).map(({ref}) => documents.get(ref));
    displayResults(found.map((item) => ({...item, summary: item.text.slice(0, 200)})));
  });
});
