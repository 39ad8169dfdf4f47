import com.aliyun.oss.*;
import com.aliyun.oss.common.auth.DefaultCredentialProvider;
import com.aliyun.oss.common.comm.SignVersion;
import com.aliyun.oss.model.*;
import java.io.*;
import java.net.*;
import java.net.http.*;
import java.nio.file.*;
import java.util.*;

import static java.nio.charset.StandardCharsets.UTF_8;

/** Has the real Java SDK use the endpoint, given as arguments endpoint, bucket,
 *  key id and secret. What is wrong is an exception. Java 11 or newer runs it
 *  from its source. */
public class Oss {
    static OSS oss;
    static String name;

    interface Action { void run() throws Throwable; }

    static void same(Object got, Object want) {
        if (!Objects.equals(got, want)) throw new AssertionError("got " + got + ", want " + want);
    }

    static void fails(String code, Action action) throws Throwable {
        String got = "no error";
        try { action.run(); } catch (OSSException e) { got = e.getErrorCode(); }
        same(got, code);
    }

    static InputStream stream(String text) { return new ByteArrayInputStream(text.getBytes(UTF_8)); }

    static void put(String key, String text) { oss.putObject(name, key, stream(text)); }

    static byte[] bytes(OSSObject o) throws Exception {
        try (InputStream in = o.getObjectContent()) { return in.readAllBytes(); }
    }

    static String get(String key) throws Exception { return new String(bytes(oss.getObject(name, key)), UTF_8); }

    static OSS client(SignVersion version, String endpoint, String id, String secret) {
        ClientBuilderConfiguration conf = new ClientBuilderConfiguration();
        conf.setSignatureVersion(version);
        return OSSClientBuilder.create().endpoint(endpoint).region("lan").clientConfiguration(conf)
            .credentialsProvider(new DefaultCredentialProvider(id, secret)).build();
    }

    static void basics() throws Throwable {
        for (String key : List.of("a", "a/", "a/b", "k/a b c.txt", "k/中文/文件 名.txt", "k/plus+plus", "k/100%", "k/a&b=c?d#e", "k//double")) {
            put(key, "content of " + key);
            same(get(key), "content of " + key);
            same(oss.doesObjectExist(name, key), true);
            oss.deleteObject(name, key);
            same(oss.doesObjectExist(name, key), false);
        }
        put("empty", "");
        same(get("empty"), "");
        // A stream without a length is sent in chunks.
        String half = "x".repeat(70000);
        oss.putObject(name, "chunked", new SequenceInputStream(stream(half), stream(half)));
        same(get("chunked"), half + half);
        GetObjectRequest range = new GetObjectRequest(name, "chunked");
        range.setRange(69999, 70001);
        same(new String(bytes(oss.getObject(range)), UTF_8), "xxx");
    }

    static void errors(String endpoint, SignVersion version, String id, String secret) throws Throwable {
        put("there", "x");
        fails("NoSuchKey", () -> oss.getObject(name, "missing"));
        fails("NoSuchKey", () -> oss.getObjectMetadata(name, "missing"));
        fails("NoSuchBucket", () -> oss.getObject("another", "there"));
        fails("InvalidObjectName", () -> put("a/../b", "x"));
        fails("SignatureDoesNotMatch", () -> client(version, endpoint, id, secret + "x").getObject(name, "there"));
        fails("InvalidAccessKeyId", () -> client(version, endpoint, id + "x", secret).getObject(name, "there"));
        ObjectMetadata m = new ObjectMetadata();
        m.setHeader("x-oss-forbid-overwrite", "true");
        fails("FileAlreadyExists", () -> oss.putObject(name, "there", stream("y"), m));
        ObjectMetadata sum = new ObjectMetadata();
        sum.setContentMD5("XUFAKrxLKna5cZ2REBfFkg==");
        fails("InvalidDigest", () -> oss.putObject(name, "there", stream("hellx"), sum));
        same(get("there"), "x");
    }

    static void metadata() throws Throwable {
        ObjectMetadata m = new ObjectMetadata();
        m.addUserMetadata("Who", "me");
        m.addUserMetadata("mixed-CASE", "A b");
        m.setContentType("image/png");
        m.setCacheControl("no-cache");
        oss.putObject(name, "meta", stream("x"), m);
        oss.copyObject(name, "meta", name, "k/co+p y/中");
        for (String key : List.of("meta", "k/co+p y/中")) {
            ObjectMetadata got = oss.getObjectMetadata(name, key);
            same(got.getUserMetadata(), Map.of("who", "me", "mixed-case", "A b"));
            same(List.of(got.getContentType(), got.getCacheControl(), got.getContentLength(), got.getETag()),
                List.of("image/png", "no-cache", 1L, "9DD4E461268C8034F5C8564E155C67A6"));
            same(get(key), "x");
        }
        CopyObjectRequest copy = new CopyObjectRequest(name, "k/co+p y/中", name, "meta2");
        ObjectMetadata other = new ObjectMetadata();
        other.addUserMetadata("who", "you");
        copy.setNewObjectMetadata(other);
        oss.copyObject(copy);
        same(oss.getObjectMetadata(name, "meta2").getUserMetadata(), Map.of("who", "you"));
    }

    static void listings() throws Throwable {
        List<String> files = new ArrayList<>(), folders = List.of("ls/sub +/", "ls/sub%20/", "ls/sub中/");
        for (int i = 0; i < 25; i++) files.add(String.format("ls/%02d 中+%%&<", i));
        List<String> all = new ArrayList<>(files);
        for (String f : folders) all.addAll(List.of(f + "x y", f + "z"));
        for (String key : all) put(key, "x");
        // A page has 7 entries: the folders begin on one and end on the next. Who
        // asks for "url" must decode it; this SDK does not.
        for (String delimiter : new String[] {null, "/"}) {
            List<String> keys = new ArrayList<>(), prefixes = new ArrayList<>(), keys2 = new ArrayList<>(), prefixes2 = new ArrayList<>();
            ObjectListing l;
            String marker = null;
            do {
                l = oss.listObjects(new ListObjectsRequest(name, "ls/", marker, delimiter, 7));
                for (OSSObjectSummary s : l.getObjectSummaries()) keys.add(s.getKey());
                prefixes.addAll(l.getCommonPrefixes());
                marker = l.getNextMarker();
            } while (l.isTruncated());
            ListObjectsV2Result l2;
            String token = null;
            do {
                l2 = oss.listObjectsV2(new ListObjectsV2Request(name, "ls/", token, null, delimiter, 7, "url", false));
                for (OSSObjectSummary s : l2.getObjectSummaries()) keys2.add(URLDecoder.decode(s.getKey(), UTF_8));
                for (String p : l2.getCommonPrefixes()) prefixes2.add(URLDecoder.decode(p, UTF_8));
                token = l2.getNextContinuationToken();
            } while (l2.isTruncated());
            for (List<String> k : List.of(keys, keys2)) same(k, delimiter == null ? all : files);
            for (List<String> p : List.of(prefixes, prefixes2)) same(p, delimiter == null ? List.of() : folders);
        }
        List<String> gone = List.of(all.get(0), all.get(26), "not & there");
        same(oss.deleteObjects(new DeleteObjectsRequest(name).withKeys(gone).withEncodingType("url")).getDeletedObjects(), gone);
        same(oss.deleteObjects(new DeleteObjectsRequest(name).withKeys(List.of(all.get(1))).withQuiet(true)).getDeletedObjects(), List.of());
        for (int i : new int[] {0, 1, 26}) same(oss.doesObjectExist(name, all.get(i)), false);
        same(oss.doesObjectExist(name, all.get(2)), true);
    }

    static void multipart() throws Throwable {
        byte[] data = new byte[(2 << 20) + 12345];
        new Random(1).nextBytes(data);
        Path up = Files.write(Path.of("up"), data), down = Path.of("down");
        oss.uploadFile(new UploadFileRequest(name, "big 文+", up.toString(), 256 << 10, 4, true));
        same(oss.getObjectMetadata(name, "big 文+").getETag().endsWith("-9"), true);
        oss.downloadFile(new DownloadFileRequest(name, "big 文+", down.toString(), 300 << 10, 3, true));
        same(Arrays.equals(Files.readAllBytes(down), data), true);

        String key = "parts +", id = oss.initiateMultipartUpload(new InitiateMultipartUploadRequest(name, key)).getUploadId();
        List<PartETag> parts = new ArrayList<>();
        for (int n = 1; n <= 3; n++) {
            InputStream in = new ByteArrayInputStream(data, (n - 1) * 150000, 150000);
            parts.add(oss.uploadPart(new UploadPartRequest(name, key, id, n, in, 150000)).getPartETag());
        }
        same(oss.listParts(new ListPartsRequest(name, key, id)).getParts().size(), 3);
        same(oss.listMultipartUploads(new ListMultipartUploadsRequest(name)).getMultipartUploads().get(0).getKey(), key);
        PartETag wrong = new PartETag(2, parts.get(2).getETag());
        fails("InvalidPart", () -> oss.completeMultipartUpload(new CompleteMultipartUploadRequest(name, key, id, new ArrayList<>(List.of(parts.get(0), wrong)))));
        same(oss.completeMultipartUpload(new CompleteMultipartUploadRequest(name, key, id, parts)).getKey(), key);
        same(Arrays.equals(bytes(oss.getObject(name, key)), Arrays.copyOf(data, 450000)), true);
        fails("NoSuchUpload", () -> oss.listParts(new ListPartsRequest(name, key, id)));
        String aborted = oss.initiateMultipartUpload(new InitiateMultipartUploadRequest(name, key)).getUploadId();
        oss.abortMultipartUpload(new AbortMultipartUploadRequest(name, key, aborted));
        fails("NoSuchUpload", () -> oss.listParts(new ListPartsRequest(name, key, aborted)));
    }

    static HttpResponse<String> http(String method, String url, String body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(url)).method(method, HttpRequest.BodyPublishers.ofString(body)).build();
        return HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
    }

    static void urls(SignVersion version) throws Throwable {
        String key = "by url/中 +%";
        Date soon = new Date(System.currentTimeMillis() + 60000);
        URL put = oss.generatePresignedUrl(name, key, soon, HttpMethod.PUT), get = oss.generatePresignedUrl(name, key, soon);
        same(get.getQuery().contains("x-oss-signature="), version == SignVersion.V4); // or V1 was tested twice
        same(http("PUT", put.toString(), "by URL").statusCode(), 200);
        same(http("GET", get.toString(), "").body(), "by URL");
        same(http("GET", put.toString(), "").statusCode(), 403);
        same(http("GET", get.toString().replace("by%20url", "other"), "").statusCode(), 403);
        oss.putObject(put, stream("by the SDK"), 10, new HashMap<>());
        same(new String(bytes(oss.getObject(get, new HashMap<>())), UTF_8), "by the SDK");
    }

    public static void main(String[] args) throws Throwable {
        name = args[1];
        for (SignVersion version : List.of(SignVersion.V1, SignVersion.V4)) {
            oss = client(version, args[0], args[2], args[3]);
            basics();
            errors(args[0], version, args[2], args[3]);
            metadata();
            listings();
            multipart();
            urls(version);
            oss.shutdown();
        }
        System.out.println("ALL WELL");
    }
}
