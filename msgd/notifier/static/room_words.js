/** What a room's own events say. */

const MOST = 5; // names in a line

function names(members) {
  const shown = members.slice(0, MOST).join(", ");
  return members.length > MOST ? `${shown} and ${members.length - MOST} more` : shown;
}

export const isOfRoom = (event) => event.topic?.startsWith("room.") && event.type.startsWith("room.");

/** In words, after the author's name; "" for what is no event of a room. */
export function roomWords(event) {
  const members = Array.isArray(event.data?.members) ? event.data.members.map(String) : [];
  const alone = members.length === 1 && members[0] === event.source;
  switch (event.type) {
    case "room.created": return "made this room";
    case "room.changed": return "changed the room’s title or description";
    case "room.joined": return alone ? "joined" : `let in ${names(members)}`;
    case "room.left": return alone ? "left" : `put out ${names(members)}`;
    case "room.deleted": return "deleted this room";
    default: return "";
  }
}
